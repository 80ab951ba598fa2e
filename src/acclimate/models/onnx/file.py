"""An ONNX file from anywhere as one message, with nothing read from outside its folder."""

import math
from pathlib import Path

import numpy as np
import onnx
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from acclimate.errors import DataError, ModelFileError, reason
from acclimate.files import inside, read_bounded

MAX_BYTES = 2_000_000_000
"""Of a graph with its weights: a message of protobuf's ends at 2 GiB."""


def read_graph(path: Path) -> bytes:
    """An ONNX file as one message, with what it keeps in files beside it.

    Args:
        path: The file.

    Returns:
        The bytes.

    Raises:
        ModelFileError: It is no ONNX, is too large, or its weights are missing or elsewhere.
    """
    try:
        content = read_bounded(path, MAX_BYTES)
    except DataError as error:
        raise ModelFileError(error.message, where=path) from error
    model = parse_graph(content)
    outside = [tensor for tensor in model.graph.initializer if uses_external_data(tensor)]
    if not outside:
        return content
    try:
        if sum(map(_bytes_of, outside)) + len(content) > MAX_BYTES:
            raise ValueError(f"they are larger than {MAX_BYTES:,} bytes")
        for tensor in outside:
            _load_external(tensor, path.parent)
        return bytes(model.SerializeToString())
    except (DataError, OSError, ValueError, KeyError, onnx.checker.ValidationError) as error:
        raise ModelFileError(
            f"weights that stand beside the ONNX file cannot be had: {reason(error)}.",
            where=path,
            hint="Keep its data file in the same folder, or save the model as one file.",
        ) from error


def parse_graph(graph: bytes) -> onnx.ModelProto:
    """The message that an ONNX file holds.

    Args:
        graph: The file's bytes.

    Returns:
        The model.

    Raises:
        ModelFileError: The bytes are no ONNX.
    """
    try:
        model = onnx.load_from_string(graph)
        # Bytes that happen to be a message of another kind leave all of this empty.
        whole = bool(model.ir_version and model.graph.node)
    except Exception as error:  # protobuf raises its own kinds on hostile bytes
        raise ModelFileError("file is no ONNX, or a damaged one.") from error
    if not whole:
        raise ModelFileError("file is no ONNX, or a damaged one.")
    return model


def _bytes_of(tensor: onnx.TensorProto) -> int:
    kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    size: int = math.prod(tensor.dims) * kind.itemsize
    return size


def _load_external(tensor: onnx.TensorProto, folder: Path) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    place = inside(folder, entries.get("location", ""))  # ONNX refuses links and `..` once more
    if "length" not in entries and place.stat().st_size > MAX_BYTES:
        raise ValueError(f"{place.name} is larger than {MAX_BYTES:,} bytes")
    if int(entries.get("length", 0)) > _bytes_of(tensor):
        raise ValueError(f"{tensor.name!r} is said to be longer than its shape")
    load_external_data_for_tensor(tensor, str(folder))
