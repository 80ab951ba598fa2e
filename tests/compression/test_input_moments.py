"""Means and products of the inputs of layers."""

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from acclimate.compression.input_moments import layers_of, measure_moments

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((6, 4, 6, 6)).astype(np.float32)


def graph(path, nodes, weights, output="y"):
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in ("images", output)
    ]
    known = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], known)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


@pytest.mark.parametrize(
    ("groups", "kernel", "settings"),
    [
        (1, 1, {}),
        (1, 3, {"pads": [1, 1, 1, 1]}),
        (2, 3, {"pads": [0, 1, 1, 0], "strides": [2, 2]}),
        (4, 3, {"pads": [2, 2, 2, 2], "dilations": [2, 2]}),
    ],
)
def test_a_convolution_sees_its_patches(tmp_path, groups, kernel, settings):
    weights = RNG.standard_normal((8, 4 // groups, kernel, kernel)).astype(np.float32)
    node = helper.make_node("Conv", ["images", "w"], ["y"], name="c", group=groups, **settings)
    path = graph(tmp_path / "g.onnx", [node], {"w": weights})
    (layer,) = layers_of(onnx.load(path))
    batches = [{"images": IMAGES[:4]}, {"images": IMAGES[4:]}]
    # All positions, so that nothing is left to chance.
    found = measure_moments(path, [layer], batches, positions=10_000)["c"]
    top, left, bottom, right = settings.get("pads", [0] * 4)
    padded = torch.nn.functional.pad(torch.from_numpy(IMAGES), (left, right, top, bottom))
    patches = torch.nn.functional.unfold(
        padded, kernel,
        dilation=settings.get("dilations", 1), stride=settings.get("strides", 1),
    )  # fmt: skip
    rows = patches.transpose(1, 2).reshape(-1, patches.shape[1]).numpy().astype(np.float64)
    rows = rows.reshape(len(rows), groups, -1).transpose(1, 0, 2)
    assert np.allclose(found.mean, rows.mean(1), atol=1e-5)
    assert np.allclose(found.products, rows.transpose(0, 2, 1) @ rows / rows.shape[1], atol=1e-4)
    outputs = layer.matrices(weights)
    assert outputs.shape == (groups, 8 // groups, rows.shape[2])
    assert np.array_equal(layer.from_matrices(outputs), weights)


@pytest.mark.parametrize("kind", ["Gemm", "transposed Gemm", "MatMul"])
def test_a_linear_layer_sees_the_last_axis(tmp_path, kind):
    values = IMAGES.reshape(6, 24, 6) if kind == "MatMul" else IMAGES.reshape(24, 36)
    inputs = values.shape[-1]
    weights = RNG.standard_normal((inputs, 3)).astype(np.float32)
    stored = np.ascontiguousarray(weights.T) if kind.startswith("trans") else weights
    more = {"transB": 1} if kind.startswith("trans") else {}
    node = helper.make_node(kind.split()[-1], ["images", "w"], ["y"], name="l", **more)
    path = graph(tmp_path / "g.onnx", [node], {"w": stored})
    (layer,) = layers_of(onnx.load(path))
    found = measure_moments(path, [layer], [{"images": values}], positions=10_000)["l"]
    rows = values.reshape(-1, inputs).astype(np.float64)
    assert np.allclose(found.products[0], rows.T @ rows / len(rows), atol=1e-4)
    assert np.allclose(found.covariance[0], np.cov(rows.T, bias=True), atol=1e-4)
    assert np.array_equal(layer.matrices(stored)[0], weights.T)
    assert np.array_equal(layer.from_matrices(layer.matrices(stored)), stored)


def test_layers_without_constant_weights_are_left_out(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["images", "images"], ["a"], name="attention"),
        helper.make_node("Relu", ["a"], ["y"], name="relu"),
    ]
    assert layers_of(onnx.load(graph(tmp_path / "g.onnx", nodes, {}))) == []


def test_a_small_variance_beside_a_large_mean_is_not_lost(tmp_path):
    values = (1000 + 0.01 * RNG.standard_normal((64, 3))).astype(np.float32)
    node = helper.make_node("MatMul", ["images", "w"], ["y"], name="l")
    path = graph(tmp_path / "g.onnx", [node], {"w": np.ones((3, 1), np.float32)})
    batches = [{"images": values[:32]}, {"images": values[32:]}]
    found = measure_moments(path, layers_of(onnx.load(path)), batches)["l"]
    wanted = np.cov(values.astype(np.float64).T, bias=True)
    assert np.allclose(found.covariance[0], wanted, rtol=0.02, atol=2e-6)
    assert np.linalg.eigvalsh(found.covariance[0]).min() > 0
