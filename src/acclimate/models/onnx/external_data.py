"""Tensors of an ONNX model that are kept in other files: found wherever the format allows them.

ONNX Runtime resolves such files against the current directory if it is given bytes, so a graph is
only run after all of them were read from its own folder.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx.external_data_helper import uses_external_data

from acclimate.errors import ModelFileError
from acclimate.files import inside
from acclimate.regular_files import read_regular


def external_tensors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """The tensors whose data is in other files.

    Args:
        model: The model; its initializers, attributes, subgraphs and functions are searched.

    Returns:
        The tensors themselves, not copies.
    """
    return [tensor for tensor in _all_tensors(model) if uses_external_data(tensor)]


def check_without_external_data(model: onnx.ModelProto) -> None:
    """Raises a ModelFileError if a model keeps data in other files."""
    outside = external_tensors(model)
    if outside:
        raise ModelFileError(
            f"the ONNX graph keeps the data of {outside[0].name!r} in another file, which a model "
            "folder does not allow.",
            hint="Give the ONNX file itself, with its data file beside it.",
        )


def load_external_data(model: onnx.ModelProto, folder: Path, limit: int, held: int) -> None:
    """Reads the data of all tensors from files in a folder into the model.

    Args:
        model: Changed in place.
        folder: The folder of the ONNX file; nothing outside it is read.
        limit: Most bytes of the whole model.
        held: Bytes that it has without them.

    Raises:
        DataError: A file is outside the folder, or not a regular file.
        ValueError: The tensors are larger than the limit, or a file does not fit them.
        OSError: A file is missing.
    """
    tensors = external_tensors(model)
    if sum(map(_bytes_of, tensors)) + held > limit:
        raise ValueError(f"they are larger than {limit:,} bytes")
    contents: dict[Path, bytes] = {}
    for tensor in tensors:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        place = inside(folder, entries.get("location", ""))
        if place not in contents:
            contents[place] = read_regular(place, limit)
        start = int(entries.get("offset", 0))
        size = int(entries.get("length", len(contents[place]) - start))
        if size > _bytes_of(tensor):
            raise ValueError(f"the length of {tensor.name!r} is larger than its shape")
        data = contents[place][start : start + size]
        if start < 0 or size < 0 or len(data) < size:
            raise ValueError(f"{place.name} ends before the data of {tensor.name!r}")
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT
        tensor.raw_data = data


def _all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    graphs = [model.graph]
    for training in model.training_info:
        graphs += [training.initialization, training.algorithm]
    attributes = []
    for function in model.functions:
        attributes += [*function.attribute_proto, *_attributes(function.node)]
    while graphs or attributes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            attributes += _attributes(graph.node)
        else:
            attribute = attributes.pop()
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            graphs += [attribute.g, *attribute.graphs]


def _attributes(nodes: Iterator[onnx.NodeProto]) -> list[onnx.AttributeProto]:
    # An attribute of another type has an empty graph, whose own attributes would be none.
    return [attribute for node in nodes for attribute in node.attribute if attribute.type in _WITH]


_WITH = {
    getattr(onnx.AttributeProto, name)
    for name in ("TENSOR", "TENSORS", "SPARSE_TENSOR", "SPARSE_TENSORS", "GRAPH", "GRAPHS",
                 "UNDEFINED")
}  # fmt: skip
"""Types of attributes that can hold a tensor; files of before 2017 do not say their types."""


def _bytes_of(tensor: onnx.TensorProto) -> int:
    kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    size: int = math.prod(tensor.dims) * kind.itemsize
    return size
