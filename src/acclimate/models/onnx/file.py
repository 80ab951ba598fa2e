"""Reads ONNX files from untrusted sources. Nothing is read from outside their folder."""

from pathlib import Path

import onnx

from acclimate.errors import DataError, ModelFileError, reason
from acclimate.files import read_bounded
from acclimate.models.onnx.external_data import external_tensors, load_external_data

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
    if not external_tensors(model):
        return content
    try:
        load_external_data(model, path.parent, MAX_BYTES, len(content))
        return bytes(model.SerializeToString())
    except (DataError, OSError, ValueError, KeyError) as error:
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
