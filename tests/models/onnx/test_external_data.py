"""Weights beside an ONNX file: taken from its own folder only, wherever the format allows them."""

import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from acclimate.errors import ModelFileError
from acclimate.models.onnx.external_data import check_without_external_data, external_tensors
from acclimate.models.onnx.file import parse_graph, read_graph
from acclimate.models.runtime import open_session

OWN = np.arange(1, 5, dtype=np.float32)


def outside(name="w", location="w.bin", **entries):
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def value(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def constant(tensor, name="w"):
    return helper.make_node("Constant", [], [name], value=tensor)


def model_of(nodes, initializers=(), functions=(), sparse=()):
    body = helper.make_graph(
        nodes, "g", [value("x", [4])], [value("y", [4])], initializer=list(initializers)
    )
    body.sparse_initializer.extend(sparse)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    return helper.make_model(
        body, opset_imports=opsets, ir_version=10, functions=list(functions)
    )  # fmt: skip


ADD = helper.make_node("Add", ["x", "w"], ["y"])


def in_initializer(tensor):
    return model_of([ADD], [tensor])


def in_constant(tensor):
    return model_of([constant(tensor), ADD])


def in_subgraph(tensor):
    yes = helper.make_tensor("c", TensorProto.BOOL, [], [True])
    branch = helper.make_graph([helper.make_node("Add", ["x", "w"], ["z"])], "b", [],
                               [value("z", [4])], initializer=[tensor])  # fmt: skip
    return model_of(
        [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], [yes]
    )


def in_function(tensor):
    function = helper.make_function(
        "own", "AddW", ["x"], ["y"], [constant(tensor), ADD], [helper.make_opsetid("", 18)]
    )
    return model_of([helper.make_node("AddW", ["x"], ["y"], domain="own")], functions=[function])


def in_sparse_initializer(tensor):
    sparse = onnx.SparseTensorProto(values=tensor, dims=[4])
    sparse.indices.CopyFrom(helper.make_tensor("i", TensorProto.INT64, [4], [0, 1, 2, 3]))
    return model_of([ADD], sparse=[sparse])


def in_sparse_constant(tensor):
    sparse = onnx.SparseTensorProto(values=tensor, dims=[4])
    sparse.indices.CopyFrom(helper.make_tensor("i", TensorProto.INT64, [4], [0, 1, 2, 3]))
    return model_of([helper.make_node("Constant", [], ["w"], sparse_value=sparse), ADD])


PLACES = {
    "initializer": in_initializer,
    "constant": in_constant,
    "subgraph": in_subgraph,
    "function": in_function,
    "sparse initializer": in_sparse_initializer,
    "sparse constant": in_sparse_constant,
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder for the file and its weights, and another one with others, where we are."""
    for name, weights in (("own", OWN), ("here", -OWN)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "w.bin").write_bytes(weights.tobytes())
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "own" / "leaf.onnx"


@pytest.mark.parametrize("where", PLACES)
def test_weights_are_read_from_the_folder_of_the_file_and_never_from_where_we_are(place, where):
    place.write_bytes(PLACES[where](outside()).SerializeToString())
    whole = read_graph(place)
    assert external_tensors(parse_graph(whole)) == []
    assert OWN.tobytes() in whole
    if "initializer" not in where or where == "initializer":  # ONNX Runtime runs the others
        place.with_name("w.bin").unlink()
        found = open_session(whole, "cpu")(np.zeros(4, np.float32))
        assert (found == OWN).all()


@pytest.mark.parametrize("where", PLACES)
def test_a_model_folder_carries_no_such_weights(where):
    with pytest.raises(ModelFileError) as caught:
        check_without_external_data(PLACES[where](outside()))
    assert caught.value.message == (
        "the ONNX graph keeps the data of 'w' in another file, which a model folder does not allow."
    )


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("location", ["../here/w.bin", "/etc/hostname", "link", "pipe", "absent"])
def test_weights_elsewhere_are_refused(place, where, location):
    place.with_name("link").symlink_to(place.parent.parent / "here" / "w.bin")
    os.mkfifo(place.with_name("pipe"))
    place.write_bytes(PLACES[where](outside(location=location)).SerializeToString())
    with pytest.raises(ModelFileError) as caught:
        read_graph(place)
    assert caught.value.where == str(place)


@pytest.mark.parametrize(
    "entries",
    [{"offset": -4}, {"offset": 4}, {"length": 20}, {"length": -1}, {"offset": "x"}],
    ids=str,
)
def test_a_part_that_the_file_does_not_have_is_refused(place, entries):
    entries = {"length": 16, **entries}
    place.write_bytes(in_initializer(outside(**entries)).SerializeToString())
    with pytest.raises(ModelFileError, match="external data of the ONNX file cannot be read"):
        read_graph(place)


def test_shapes_are_added_up_before_a_byte_is_read(place):
    tensor = outside()
    del tensor.dims[:]
    tensor.dims.extend([10**6, 10**6])
    place.write_bytes(in_constant(tensor).SerializeToString())
    with pytest.raises(ModelFileError, match="they are larger than"):
        read_graph(place)
