"""Mean and second moment of the inputs of each layer of an ONNX graph, on calibration images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from acclimate.compression.activation_ranges import Batch
from acclimate.models.runtime import create_session

_POSITIONS = 32
"""Positions of an image that are looked at. Neighbours are alike, and there are many images."""
_MOST_INPUTS = 4608
"""Inputs of one output: 3 x 3 x 512. The moments of more take too much memory."""


@dataclass(frozen=True)
class Layer:
    """A convolution or a linear layer with constant weights.

    Attributes:
        node: Its node.
        weights: float32, as in the graph.
    """

    node: onnx.NodeProto
    weights: NDArray[np.float32]

    def numbers(self, attribute: str, default: Sequence[int]) -> list[int]:
        """An attribute of the node that is one integer or several."""
        for one in self.node.attribute:
            if one.name == attribute:
                return list(one.ints) or [int(one.i)]
        return list(default)

    @property
    def groups(self) -> int:
        """g: the number of groups of channels; more than 1 in some convolutions only."""
        return self.numbers("group", [1])[0] if self.node.op_type == "Conv" else 1

    @property
    def transposed(self) -> bool:
        """Whether the weights count inputs before outputs."""
        gemm = self.node.op_type == "Gemm" and self.numbers("transB", [0]) == [0]
        return gemm or self.node.op_type == "MatMul"

    def matrices(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Weights as (g, o, k): k inputs of o outputs in g groups."""
        ordered = weights.T if self.transposed else weights
        return ordered.reshape(self.groups, len(ordered) // self.groups, -1)

    def from_matrices(self, matrices: NDArray[np.float64]) -> NDArray[np.float64]:
        """The reverse of `matrices`."""
        shape = self.weights.T.shape if self.transposed else self.weights.shape
        ordered = matrices.reshape(shape)
        return np.ascontiguousarray(ordered.T if self.transposed else ordered)


@dataclass(frozen=True)
class Moments:
    """Of the k inputs of the outputs of one layer, in g groups.

    Attributes:
        mean: float64, (g, k).
        covariance: float64, (g, k, k).
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @property
    def products(self) -> NDArray[np.float64]:
        """float64, (g, k, k): means of products."""
        return self.covariance + self.mean[:, :, None] * self.mean[:, None, :]


class _Sums:
    """Sums over the inputs of one layer, as distances from the mean of the first batch.

    The sums of products are in float32 for speed: without the shift, a covariance that is small
    beside the mean would be lost in rounding errors.
    """

    def __init__(self, first: NDArray[np.float32]) -> None:
        groups, _, inputs = first.shape
        self._shift = first.mean(1, keepdims=True)
        self._total = np.zeros((groups, inputs))
        self._products = np.zeros((groups, inputs, inputs))
        self._count = 0

    def add(self, inputs: NDArray[np.float32]) -> None:
        """Adds inputs, float32, (g, n, k)."""
        distances = inputs - self._shift
        self._products += np.matmul(distances.transpose(0, 2, 1), distances)
        self._total += distances.sum(1, dtype=np.float64)
        self._count += inputs.shape[1]

    def moments(self) -> Moments:
        """The moments of all inputs."""
        distance = self._total / self._count
        covariance = self._products / self._count
        covariance -= distance[:, :, None] * distance[:, None, :]
        return Moments(self._shift[:, 0] + distance, covariance)


def layers_of(model: onnx.ModelProto) -> list[Layer]:
    """The layers with constant weights whose moments fit into memory.

    Args:
        model: A float graph.

    Returns:
        Convolutions, Gemm and MatMul.
    """
    known = {tensor.name: tensor for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        axes = {"Conv": (4,), "Gemm": (2,), "MatMul": (2,)}.get(node.op_type)
        tensor = known.get(node.input[1]) if axes and len(node.input) > 1 else None
        if axes is None or tensor is None or len(tensor.dims) not in axes:
            continue
        layer = Layer(node, onnx.numpy_helper.to_array(tensor))
        inputs = layer.weights.size // max(len(layer.matrices(layer.weights)[0]), 1)
        if layer.weights.dtype == np.float32 and inputs // layer.groups <= _MOST_INPUTS:
            found.append(layer)
    return found


def measure_moments(
    graph: Path,
    layers: Sequence[Layer],
    batches: Iterable[Batch],
    *,
    positions: int = _POSITIONS,
    seed: int = 0,
) -> dict[str, Moments]:
    """Passes images through the graph once.

    Args:
        graph: ONNX file with float weights.
        layers: Of this graph.
        batches: The calibration images.
        positions: Number of positions of each image that are looked at.
        seed: Of the choice of positions.

    Returns:
        Name of each layer's node to its moments.
    """
    model = onnx.load(graph)
    own = {value.name for value in model.graph.input}
    names = list(dict.fromkeys(layer.node.input[0] for layer in layers))
    inner = [name for name in names if name not in own]
    for name in inner:
        model.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        )
    session, rng = create_session(model.SerializeToString(), "cpu"), np.random.default_rng(seed)
    sums: dict[str, _Sums] = {}
    for batch in batches:
        values = dict(zip(inner, session.run(inner, batch) if inner else (), strict=True)) | batch
        for layer in layers:
            inputs = _inputs(layer, values[layer.node.input[0]], positions, rng)
            if layer.node.name not in sums:
                sums[layer.node.name] = _Sums(inputs)
            sums[layer.node.name].add(inputs)
    return {name: one.moments() for name, one in sums.items()}


def _inputs(
    layer: Layer, values: NDArray[np.float32], positions: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """The inputs of some outputs of a layer: float32, (g, n, k)."""
    if layer.node.op_type != "Conv":
        rows = values.reshape(-1, values.shape[-1])
        most = min(positions * len(values), len(rows))
        chosen = rng.choice(len(rows), most, replace=False)
        return np.asarray(rows[chosen][None], np.float32)
    windows = _windows(layer, values)  # (N, C, H, W, kh, kw)
    images, channels, height, width = windows.shape[:4]
    places = rng.choice(height * width, min(positions, height * width), replace=False)
    some = windows[:, :, places // width, places % width]  # (N, C, p, kh, kw)
    some = some.reshape(images, layer.groups, channels // layer.groups, len(places), -1)
    ordered = some.transpose(1, 0, 3, 2, 4)  # (g, N, p, C / g, kh * kw)
    return np.ascontiguousarray(ordered).reshape(layer.groups, images * len(places), -1)


def _windows(layer: Layer, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """What each output of a convolution sees, as a view of its padded input."""
    top, left, bottom, right = layer.numbers("pads", [0, 0, 0, 0])
    down, across = layer.numbers("strides", [1, 1])
    tall, wide = layer.numbers("dilations", [1, 1])
    size = [(n - 1) * d + 1 for n, d in zip(layer.weights.shape[2:], (tall, wide), strict=True)]
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows: NDArray[np.float32] = sliding_window_view(padded, size, axis=(2, 3))
    return windows[:, :, ::down, ::across, ::tall, ::wide]
