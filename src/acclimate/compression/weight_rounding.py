"""Rounds weights to integers so that the outputs of each layer change as little as possible.

Rounded to the nearest integers, the errors of an output's weights add up wherever its inputs change
together. Here each rounding error is made up for by the weights that are not rounded yet, as the
inputs of the layer on calibration images demand. Sources: Frantar & Alistarh 2022, "Optimal Brain
Compression", arXiv 2208.11580; in the fast order of GPTQ, arXiv 2210.17323. Where the layer has a
bias, it takes up the mean of the error (Nagel et al. 2019, arXiv 1906.04721), so that only the
covariance of the inputs counts.

EfficientNet-Lite0, fine-tuned on digits: rounding to the nearest integers changes 45 % of the
predictions with 8 bits and 90 % with 7; with this, none of 256 change.
"""

from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from acclimate.compression.activation_ranges import Batch
from acclimate.compression.input_moments import Layer, Moments, layers_of, measure_moments

_DAMPING = 0.01
"""Added to the variances, as a part of their mean: inputs that hardly vary stay bounded."""
_BLOCK = 64
"""Inputs after which the rest of the weights is updated."""


class WeightRounding:
    """Rounds the weights of int8 graphs that were made from one float graph.

    Args:
        graph: The float graph.
        batches: The calibration images; they pass once, when they are first needed.
    """

    def __init__(self, graph: Path, batches: Iterable[Batch]) -> None:
        self._graph, self._batches = graph, batches
        self._known: dict[tuple[str, bytes], NDArray[np.float64]] = {}

    @cached_property
    def _layers(self) -> dict[str, Layer]:
        return {layer.node.name: layer for layer in layers_of(onnx.load(self._graph))}

    @cached_property
    def _moments(self) -> dict[str, Moments]:
        return measure_moments(self._graph, list(self._layers.values()), self._batches)

    def apply(self, content: bytes) -> bytes:
        """Rounds the weights of an int8 graph again.

        Args:
            content: Bytes of an ONNX file in QDQ format. Nodes have the names of the float graph.

        Returns:
            Bytes of the same graph with other integers; scales, types and ranges stay.
        """
        model = onnx.ModelProto.FromString(content)
        graph = _Graph(model)
        for node in model.graph.node:
            layer = self._layers.get(node.name)
            weights = graph.constant(node, 1) if layer is not None else None
            if layer is None or weights is None or not weights.is_of(layer):
                continue  # not quantized, shared, or with another scale than one for each output
            bias = graph.constant(node, 2)
            integers = self._rounded(layer, weights, centered=bias is not None)
            scale, zero = weights.by_output(layer)
            if bias is not None:
                error = integers * scale - layer.matrices(layer.weights)
                shift = np.einsum("gok,gk->go", error, self._moments[node.name].mean)
                bias.replace(bias.integers - np.round(shift.ravel() / bias.scale))
            weights.replace(layer.from_matrices(integers + zero))
        return bytes(model.SerializeToString())

    def _rounded(
        self, layer: Layer, weights: "_Constant", *, centered: bool
    ) -> NDArray[np.float64]:
        """float64, (g, o, k): whole numbers of steps of the scale."""
        scale, zero = weights.by_output(layer)
        key = (layer.node.name, scale.tobytes() + zero.tobytes())
        if key not in self._known:
            moments = self._moments[layer.node.name]
            self._known[key] = round_weights(
                layer.matrices(layer.weights) / scale,
                moments.covariance if centered else moments.products,
                float(weights.integers.min()) - zero[..., 0],
                float(weights.integers.max()) - zero[..., 0],
            )
        return self._known[key]


def round_weights(
    weights: NDArray[np.float64],
    products: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Rounds weights to whole numbers so that the squared error of the outputs is small.

    Args:
        weights: float64, (g, o, k), in steps of the scale: k inputs of o outputs in g groups.
        products: float64, (g, k, k): mean products of the inputs, or their covariance.
        low: float64, (g, o): smallest whole number.
        high: float64, (g, o): largest one.

    Returns:
        float64, (g, o, k): whole numbers.
    """
    inputs = weights.shape[2]
    variance = np.einsum("gkk->gk", products)
    order = np.argsort(-variance, axis=1, kind="stable")  # what matters most is rounded first
    rows = np.arange(len(products))[:, None, None]
    factor = _error_factor(products[rows, order[:, :, None], order[:, None, :]])
    left = np.take_along_axis(weights, order[:, None, :], 2)
    found = np.empty_like(left)
    for start in range(0, inputs, _BLOCK):
        end = min(start + _BLOCK, inputs)
        errors = np.empty_like(left[:, :, start:end])
        for i in range(start, end):
            found[:, :, i] = np.clip(np.round(left[:, :, i]), low, high)
            error = (left[:, :, i] - found[:, :, i]) / factor[:, None, i, i]
            left[:, :, i:end] -= error[..., None] * factor[:, None, i, i:end]
            errors[:, :, i - start] = error
        left[:, :, end:] -= np.matmul(errors, factor[:, start:end, end:])
    return np.take_along_axis(found, np.argsort(order, axis=1)[:, None, :], 2)


def _error_factor(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64, (g, k, k): the upper Cholesky factor of the inverse.

    Row i says how the later weights make up for an error of weight i, if the earlier ones are
    fixed.
    """
    level = np.einsum("gkk->g", products) / products.shape[1]
    damping = np.where(level > 0, _DAMPING * level, 1.0)
    inverse = np.linalg.inv(products + damping[:, None, None] * np.eye(products.shape[1]))
    return np.asarray(np.linalg.cholesky(inverse).transpose(0, 2, 1))


class _Graph:
    """Finds the integer constants of a graph in QDQ format."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._made = {name: node for node in model.graph.node for name in node.output}
        self._uses = Counter(name for node in model.graph.node for name in node.input)

    def constant(self, node: onnx.NodeProto, place: int) -> "_Constant | None":
        """An input that is dequantized from integers which nothing else uses; otherwise None."""
        name = node.input[place] if len(node.input) > place else ""
        maker = self._made.get(name)
        if maker is None or maker.op_type != "DequantizeLinear" or self._uses[name] > 1:
            return None
        if any(part not in self._tensors for part in maker.input) or len(maker.input) < 3:
            return None
        if self._uses[maker.input[0]] > 1:
            return None
        return _Constant(*(self._tensors[part] for part in maker.input))


class _Constant:
    """An integer tensor of a graph with its scale, of all outputs or of each."""

    def __init__(
        self, tensor: onnx.TensorProto, scale: onnx.TensorProto, zero: onnx.TensorProto
    ) -> None:
        self._tensor = tensor
        self.integers = numpy_helper.to_array(tensor).astype(np.float64)
        self.scale = numpy_helper.to_array(scale).astype(np.float64)
        self.zero = numpy_helper.to_array(zero).astype(np.float64)

    def is_of(self, layer: Layer) -> bool:
        """Whether it has one scale, or one for each output of a layer."""
        groups, outputs = layer.matrices(layer.weights).shape[:2]
        return self.scale.size in (1, groups * outputs)

    def by_output(self, layer: Layer) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scale and zero point of each output of a layer: float64, (g, o, 1)."""
        outputs = layer.matrices(layer.weights).shape[:2]
        scale, zero = (
            np.broadcast_to(values.ravel(), (outputs[0] * outputs[1],)).reshape(*outputs, 1)
            for values in (self.scale, self.zero)
        )
        return scale, zero

    def replace(self, integers: NDArray[np.float64]) -> None:
        """Changes the integers; their type stays."""
        kind = numpy_helper.to_array(self._tensor).dtype
        limits = np.iinfo(kind)
        content = np.clip(integers, limits.min, limits.max).astype(kind)
        self._tensor.CopyFrom(numpy_helper.from_array(content, self._tensor.name))
