"""Biases that make up for rounded weights."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from acclimate.compression.bias_correction import correct_biases, rounding_error

RNG = np.random.default_rng(0)
WEIGHTS = RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)
HEAD = RNG.standard_normal((4, 5)).astype(np.float32)
IMAGES = RNG.uniform(0.5, 1.5, (16, 3, 8, 8)).astype(np.float32)


def network(path, bias=True):
    """A convolution, its mean over the image, and a linear layer."""
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("images", ["n", 3, 8, 8]), ("logits", ["n", 5]))
    ]
    known = [numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(HEAD, "h")]
    known += [numpy_helper.from_array(np.array([2, 3]), "axes")]
    if bias:
        known.append(numpy_helper.from_array(np.ones(4, np.float32), "b"))
    nodes = [
        helper.make_node("Conv", ["images", "w", *(["b"] if bias else [])], ["c"], name="conv"),
        helper.make_node("ReduceMean", ["c", "axes"], ["m"], keepdims=0),
        helper.make_node("Gemm", ["m", "h"], ["logits"], name="head"),
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], known)
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    return path


def logits(model):
    return ort.InferenceSession(model.SerializeToString()).run(None, {"images": IMAGES})[0]


def rounded(model, bits):
    """The same graph with rounded weights and its own biases."""
    for tensor, axis in ((model.graph.initializer[0], 0), (model.graph.initializer[1], 1)):
        weights = numpy_helper.to_array(tensor)
        tensor.CopyFrom(
            numpy_helper.from_array(weights + rounding_error(weights, axis, bits), tensor.name)
        )
    return model


@pytest.mark.parametrize("bias", [True, False])
def test_the_mean_of_the_outputs_comes_back(tmp_path, bias):
    path = network(tmp_path / "net.onnx", bias)
    wanted = logits(onnx.load(path)).mean(0)
    plain = logits(rounded(onnx.load(path), 4)).mean(0)
    corrected = correct_biases(path, [{"images": IMAGES[:10]}, {"images": IMAGES[10:]}], 4)
    found = logits(rounded(corrected, 4)).mean(0)
    assert np.abs(plain - wanted).max() > 0.1
    assert np.abs(found - wanted).max() < 0.2 * np.abs(plain - wanted).max()


def test_only_biases_change(tmp_path):
    path = network(tmp_path / "net.onnx")
    corrected = correct_biases(path, [{"images": IMAGES}], 8)
    assert [node.op_type for node in corrected.graph.node] == ["Conv", "ReduceMean", "Gemm"]
    assert [output.name for output in corrected.graph.output] == ["logits"]
    for name, weights in (("w", WEIGHTS), ("h", HEAD)):
        (kept,) = (t for t in corrected.graph.initializer if t.name == name)
        assert np.array_equal(numpy_helper.to_array(kept), weights)


@pytest.mark.parametrize("bits", [4, 7, 8])
def test_rounding_changes_each_weight_by_half_a_step_at_most(bits):
    error = rounding_error(WEIGHTS, 0, bits)
    step = np.abs(WEIGHTS).max((1, 2, 3), keepdims=True) / (2 ** (bits - 1) - 1)
    assert np.all(np.abs(error) <= step / 2 + 1e-6)
    assert np.all(rounding_error(np.zeros_like(WEIGHTS), 0, bits) == 0)
