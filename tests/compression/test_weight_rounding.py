"""Integers that change the outputs of a layer little."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

from acclimate.compression.activation_ranges import Reader
from acclimate.compression.weight_rounding import WeightRounding, round_weights

RNG = np.random.default_rng(0)
# Neighbouring pixels and channels that change together, around a mean far from 0: like photos.
COMMON = RNG.standard_normal((64, 1, 1, 1))
IMAGES = (2 + COMMON + 0.3 * RNG.standard_normal((64, 8, 8, 8))).astype(np.float32)
HEAD = RNG.standard_normal((12, 5)).astype(np.float32)


def problem(seed, groups=1, outputs=3, inputs=20):
    rng = np.random.default_rng(seed)
    weights = rng.uniform(-7, 7, (groups, outputs, inputs))
    mixed = rng.standard_normal((groups, 4 * inputs, inputs)) @ rng.standard_normal(
        (groups, inputs, inputs)
    )
    return weights, mixed.transpose(0, 2, 1) @ mixed / (4 * inputs)


def error(weights, rounded, products):
    change = rounded - weights
    return np.einsum("gok,gkl,gol->go", change, products, change)


def bounds(weights, low=-7.0, high=7.0):
    shape = weights.shape[:2]
    return np.full(shape, low), np.full(shape, high)


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 70))
@settings(max_examples=25, deadline=None)
def test_the_result_is_whole_numbers_within_the_limits(seed, groups, inputs):
    weights, products = problem(seed, groups, 2, inputs)
    found = round_weights(weights, products, *bounds(weights, -5.0, 6.0))
    assert found.shape == weights.shape
    assert np.array_equal(found, np.round(found))
    assert found.min() >= -5
    assert found.max() <= 6


@pytest.mark.parametrize("inputs", [20, 100])  # one block, and more than one
def test_the_outputs_change_less_than_by_rounding_to_the_nearest(inputs):
    weights, products = problem(0, groups=2, inputs=inputs)
    found = round_weights(weights, products, *bounds(weights, -8.0, 8.0))
    nearest = np.round(weights)
    assert error(weights, found, products).sum() < 0.5 * error(weights, nearest, products).sum()


def test_inputs_that_change_independently_are_rounded_to_the_nearest():
    weights, _ = problem(1)
    for products in (np.diag(np.linspace(0.1, 3, 20))[None], np.zeros((1, 20, 20))):
        assert np.array_equal(round_weights(weights, products, *bounds(weights)), weights.round())


def network(path, groups, bias, transposed):
    rng = np.random.default_rng(1)
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("images", ["n", 8, 8, 8]), ("logits", ["n", 5]))
    ]
    shape = (12 if groups == 1 else 8, 8 // groups, 3, 3)
    head = HEAD[: shape[0]]
    known = {
        "w": rng.standard_normal(shape).astype(np.float32),
        "h": np.ascontiguousarray(head.T) if transposed else head,
        "axes": np.array([2, 3]),
        "b": np.ones(shape[0], np.float32),
        "c": np.ones(5, np.float32),
    }
    nodes = [
        helper.make_node(
            "Conv", ["images", "w", *(["b"] if bias else [])], ["y"], name="conv", group=groups
        ),
        helper.make_node("ReduceMean", ["y", "axes"], ["m"], keepdims=0),
        helper.make_node("Gemm", ["m", "h", "c"], ["logits"], name="head", transB=transposed),
    ]
    tensors = [numpy_helper.from_array(a, n) for n, a in known.items() if bias or n != "b"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)


def int8(path, kind, reduce_range=False):
    """With 16-bit activations: only the weights change outputs."""
    done = path.with_name("int8.onnx")
    quantize_static(
        path, done, Reader([{"images": IMAGES}]), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt16, weight_type=kind, reduce_range=reduce_range,
    )  # fmt: skip
    return done.read_bytes()


def logits(content):
    return ort.InferenceSession(content).run(None, {"images": IMAGES})[0]


@pytest.mark.parametrize("kind", [QuantType.QInt8, QuantType.QUInt8])
@pytest.mark.parametrize(
    ("groups", "bias", "transposed"), [(1, True, 0), (1, False, 1), (2, True, 1), (8, True, 0)]
)
def test_an_int8_graph_comes_closer_to_the_float_graph(tmp_path, kind, groups, bias, transposed):
    path = tmp_path / "net.onnx"
    network(path, groups, bias, transposed)
    wanted, nearest = logits(path.read_bytes()), int8(path, kind, reduce_range=True)
    batches = [{"images": IMAGES[:30]}, {"images": IMAGES[30:]}]
    rounded = WeightRounding(path, batches).apply(nearest)
    far, near = (np.square(logits(one) - wanted).mean() for one in (nearest, rounded))
    assert near < 0.5 * far
    old, new = (onnx.ModelProto.FromString(one).graph for one in (nearest, rounded))
    assert [node.op_type for node in old.node] == [node.op_type for node in new.node]
    for before, after in zip(old.initializer, new.initializer, strict=True):
        assert (before.name, before.data_type, before.dims) == (
            after.name, after.data_type, after.dims,
        )  # fmt: skip
        if "scale" in before.name or "zero_point" in before.name:
            assert before == after


def test_float_layers_stay_as_they_are(tmp_path):
    path = tmp_path / "net.onnx"
    network(path, 1, True, 0)
    content = path.read_bytes()
    assert logits(WeightRounding(path, [{"images": IMAGES}]).apply(content)) == pytest.approx(
        logits(content)
    )
