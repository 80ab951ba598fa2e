"""Corrects biases for the mean error that rounded weights cause.

Source: Nagel et al. 2019, "Data-Free Quantization", arXiv 1906.04721, section 4.2, with means that
are measured on calibration images. Rounding the weights of a channel shifts the mean of its output.
The shift is measured for each layer on its float inputs, in one pass, and subtracted from the bias.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from acclimate.compression.activation_ranges import Batch
from acclimate.models.runtime import create_session

_PREFIX = "mean shift of "
_OUTPUT_CHANNEL = {"Conv": 0, "Gemm": 1}
"""Axis of the weights that counts the outputs; of Gemm if its weights are not transposed."""


def correct_biases(graph: Path, batches: Iterable[Batch], bits: int) -> onnx.ModelProto:
    """A float graph whose biases make up for the weights that will be rounded.

    Args:
        graph: ONNX file with float weights.
        batches: The calibration images.
        bits: Of the rounded weights, which are symmetric with one scale per output channel.

    Returns:
        The graph with other biases.
    """
    model = onnx.load(graph)
    weights = {t.name: t for t in model.graph.initializer}
    layers = [
        node
        for node in model.graph.node
        if node.op_type in _OUTPUT_CHANNEL and node.input[1] in weights
    ]
    shifts = _mean_shifts(model, layers, batches, bits)
    for layer in layers:
        _subtract_from_bias(model.graph, layer, shifts[layer.output[0]])
    return model


def rounding_error(weights: NDArray[np.float32], axis: int, bits: int) -> NDArray[np.float32]:
    """What rounding changes: rounded weights minus weights.

    Args:
        weights: float32, any shape.
        axis: Of the output channels; each has its own scale.
        bits: Number of bits.

    Returns:
        float32, the same shape.
    """
    others = tuple(a for a in range(weights.ndim) if a != axis)
    largest = np.abs(weights).max(others, keepdims=True)
    scale = np.maximum(largest, 1e-12) / (2 ** (bits - 1) - 1)
    return np.asarray(np.round(weights / scale) * scale - weights, np.float32)


def _mean_shifts(
    model: onnx.ModelProto, layers: list[onnx.NodeProto], batches: Iterable[Batch], bits: int
) -> dict[str, NDArray[np.float64]]:
    """The mean change of each output channel of each layer: name of the output to (C,)."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    weights = {t.name: t for t in model.graph.initializer}
    for layer in layers:
        error = rounding_error(
            numpy_helper.to_array(weights[layer.input[1]]), _channel_axis(layer), bits
        )
        _add_probe(probe.graph, layer, error)
    session = create_session(probe.SerializeToString(), "cpu")
    names = [f"{_PREFIX}{layer.output[0]}" for layer in layers]
    sums: dict[str, NDArray[np.float64]] = {}
    images = 0
    for batch in batches:
        count = len(next(iter(batch.values())))
        images += count
        for layer, mean in zip(layers, session.run(names, batch), strict=True):
            name = layer.output[0]
            sums[name] = sums.get(name, np.zeros(mean.size)) + count * mean.ravel()
    return {name: total / images for name, total in sums.items()}


def _add_probe(graph: onnx.GraphProto, layer: onnx.NodeProto, error: NDArray[np.float32]) -> None:
    """Adds a twin of the layer with the rounding errors as weights, and the mean of its output."""
    place = f"{_PREFIX}{layer.output[0]}"
    graph.initializer.append(numpy_helper.from_array(error, f"{place}, weights"))
    twin = onnx.NodeProto()
    twin.CopyFrom(layer)
    del twin.input[1:], twin.output[:]
    twin.name = f"{place}, layer"
    twin.input.append(f"{place}, weights")
    twin.output.append(f"{place}, output")
    axes = [0, 2, 3] if layer.op_type == "Conv" else [0]
    graph.initializer.append(numpy_helper.from_array(np.array(axes), f"{place}, axes"))
    mean = helper.make_node(
        "ReduceMean", [f"{place}, output", f"{place}, axes"], [place], keepdims=0
    )
    graph.node.extend([twin, mean])
    graph.output.append(helper.make_tensor_value_info(place, onnx.TensorProto.FLOAT, None))


def _subtract_from_bias(
    graph: onnx.GraphProto, layer: onnx.NodeProto, shift: NDArray[np.float64]
) -> None:
    """Gives the layer a bias of its own, since others may share the old one."""
    known = {t.name: t for t in graph.initializer}
    old: NDArray[np.float64] = np.zeros(len(shift))
    if len(layer.input) > 2 and layer.input[2]:
        if layer.input[2] not in known:
            return  # computed, and not a constant
        old = numpy_helper.to_array(known[layer.input[2]]).astype(np.float64)
    name = f"{layer.output[0]}, corrected bias"
    new = np.asarray(np.broadcast_to(old, shift.shape) - shift, np.float32)
    graph.initializer.append(numpy_helper.from_array(new, name))
    del layer.input[2:]
    layer.input.append(name)


def _channel_axis(layer: onnx.NodeProto) -> int:
    transposed = any(a.name == "transB" and a.i for a in layer.attribute)
    return 0 if transposed else _OUTPUT_CHANNEL[layer.op_type]
