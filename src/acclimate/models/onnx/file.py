"""Reads ONNX files from untrusted sources. Nothing is read from outside their folder."""

import math
from pathlib import Path

import numpy as np
import onnx
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from acclimate.errors import DataError, ModelFileError, reason
from acclimate.files import inside, read_bounded

MAX_BYTES = 2_000_000_000
"""Largest size of a graph with its weights; protobuf is limited to 2 GiB."""


def read_graph(path: Path) -> bytes:
    """Reads an ONNX file together with its external data.

    Args:
        path: The file.

    Returns:
        The content of one ONNX file with all weights.

    Raises:
        ModelFileError: The file is not valid, it is too large, or its external data is missing or
            outside its folder.
    """
    if not path.is_file():
        raise ModelFileError("no such file.", where=path, hint="Give the path of an ONNX file.")
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
            f"the external data of the ONNX file cannot be read: {reason(error)}.",
            where=path,
            hint="Put its data file into the same folder, or save the model as one file.",
        ) from error


def parse_graph(graph: bytes) -> onnx.ModelProto:
    """Parses the content of an ONNX file.

    Args:
        graph: The content of the file.

    Returns:
        The model.

    Raises:
        ModelFileError: The content is not valid.
    """
    try:
        model = onnx.load_from_string(graph)
        # Other protobuf messages may parse too, but leave these fields empty.
        whole = bool(model.ir_version and model.graph.node)
    except Exception as error:  # protobuf raises its own types of errors
        raise ModelFileError("not a valid ONNX file.") from error
    if not whole:
        raise ModelFileError("not a valid ONNX file.")
    return model


def _bytes_of(tensor: onnx.TensorProto) -> int:
    kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    size: int = math.prod(tensor.dims) * kind.itemsize
    return size


def _load_external(tensor: onnx.TensorProto, folder: Path) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    place = inside(folder, entries.get("location", ""))  # ONNX checks links and `..` once more
    if "length" not in entries and place.stat().st_size > MAX_BYTES:
        raise ValueError(f"{place.name} is larger than {MAX_BYTES:,} bytes")
    if int(entries.get("length", 0)) > _bytes_of(tensor):
        raise ValueError(f"the length of {tensor.name!r} is larger than its shape")
    load_external_data_for_tensor(tensor, str(folder))
