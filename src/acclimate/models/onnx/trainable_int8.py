"""Quantization-aware training of an int8 ONNX graph in PyTorch.

Source: Jacob et al. 2017, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", arXiv 1712.05877. Weights and activations are fake-quantized
with the scales of the graph, and gradients use the straight-through estimator: they are zero
outside the range. In contrast to the paper, the scales are fixed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from acclimate.errors import ModelFileError
from acclimate.models.onnx.file import parse_graph
from acclimate.models.onnx.torch_operators import OPERATIONS, Operation

_TAKE_WEIGHTS = ("Conv", "Gemm", "MatMul")
"""Operators whose second and third inputs are weights, unless they are computed."""
_MAX_BIAS = 2**31 - 128
"""The largest float32 that fits into int32. ONNX Runtime increases the scale of a channel with tiny
weights until its bias just fits: without this bound the first step could overflow it."""
_BYTES = (np.dtype(np.int8), np.dtype(np.uint8))
Numbers = NDArray[Any]


class Weight(nn.Module):
    """A trainable weight of the graph.

    Args:
        numbers: The tensor in the graph: int8, uint8, int32 for a bias, or float32.
        scale: float32: one value, or one per channel.
        zero: The zero points, as many as scales.
        axis: The axis of the channels.
    """

    scale: torch.Tensor
    zero: torch.Tensor

    def __init__(self, numbers: Numbers, scale: Numbers, zero: Numbers, axis: int) -> None:
        super().__init__()
        self.kind, self.dimensions = numbers.dtype, numbers.ndim
        self.bounds = -_MAX_BIAS, _MAX_BIAS
        if self.kind in _BYTES:
            # Numbers stay within the range of their tensor, so that 7-bit weights stay 7-bit.
            self.bounds = int(numbers.min()), int(numbers.max())
        self.axis = axis if scale.size > 1 else None
        self.register_buffer("scale", torch.tensor(scale.reshape(-1)), persistent=False)
        zeros = torch.tensor(zero.reshape(-1).astype(np.int32))
        self.register_buffer("zero", zeros, persistent=False)
        plain = torch.from_numpy(numbers.astype(np.float32))
        self.weight = nn.Parameter((plain - self._along(zeros)) * self._along(self.scale))

    def forward(self) -> torch.Tensor:
        """The fake-quantized weight. A float weight is unchanged; an int32 bias is clamped."""
        if self.kind == np.float32:
            return self.weight
        if self.kind not in _BYTES:
            least, most = (bound * self._along(self.scale) for bound in self.bounds)
            return torch.clamp(self.weight, least, most)
        if self.axis is None:
            return torch.fake_quantize_per_tensor_affine(
                self.weight, self.scale, self.zero, *self.bounds
            )
        return torch.fake_quantize_per_channel_affine(
            self.weight, self.scale, self.zero, self.axis, *self.bounds
        )

    def to_numbers(self) -> Numbers:
        """The tensor to store in the graph."""
        weight = self.weight.detach()
        if self.kind != np.float32:
            weight = torch.round(weight / self._along(self.scale)) + self._along(self.zero)
            weight = weight.clamp(*self.bounds)
        return np.ascontiguousarray(weight.cpu().numpy()).astype(self.kind)

    def _along(self, values: torch.Tensor) -> torch.Tensor:
        """One value per channel, in a shape that broadcasts against the weight."""
        if self.axis is None:
            return values.reshape(())
        return values.reshape(-1, *[1] * (self.dimensions - self.axis - 1))


@dataclass(frozen=True)
class _Node:
    """One operation.

    Attributes:
        compute: The function.
        attributes: Its ONNX attributes.
        inputs: Names of values; "" for an omitted input.
        output: Name of the output value.
    """

    compute: Operation
    attributes: Mapping[str, Any]
    inputs: tuple[str, ...]
    output: str


class IntegerGraph(nn.Module):
    """A quantized graph as a trainable PyTorch module.

    Args:
        graph: Has one input and one output, in QDQ form, as `quantize` writes it.

    Raises:
        ModelFileError: It has an operator that is not supported, or no 8-bit weights.
    """

    def __init__(self, graph: bytes) -> None:
        super().__init__()
        self._graph = graph
        body = parse_graph(graph).graph
        self._input, self._output = body.input[0].name, body.output[0].name
        self.weights = nn.ModuleDict()
        """All weights in one block: with layer-wise learning rates, those near the input would
        hardly be trained."""
        self._tensor_names: dict[str, str] = {}
        """Key of a weight to the name of its tensor in the graph."""
        self._weights: dict[str, str] = {}
        """Name of a value to the key of its weight."""
        self._constants: dict[str, str] = {}
        """Name of a value to the name of its buffer."""
        self._nodes = self._read(body)
        self._last_used = self._last_uses()
        if not any(weight.kind in _BYTES for weight in self._weight_list()):
            raise ModelFileError("the ONNX graph has no 8-bit weights.")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images, float32 (B, 3, S, S), to logits (B, C)."""
        values: dict[str, torch.Tensor | None] = {"": None, self._input: images}
        values |= {name: getattr(self, buffer) for name, buffer in self._constants.items()}
        values |= {name: self.weights[key]() for name, key in self._weights.items()}
        for node, dead in zip(self._nodes, self._last_used, strict=True):
            values[node.output] = node.compute(
                node.attributes, *(values[name] for name in node.inputs)
            )
            for name in dead:
                del values[name]
        logits = values[self._output]
        assert logits is not None
        return logits

    def graph(self) -> bytes:
        """The ONNX graph with the current weights."""
        model = parse_graph(self._graph)
        to_numbers = {
            name: weight.to_numbers()
            for name, weight in zip(self._tensor_names.values(), self._weight_list(), strict=True)
        }
        for tensor in model.graph.initializer:
            if tensor.name in to_numbers:
                tensor.CopyFrom(numpy_helper.from_array(to_numbers[tensor.name], tensor.name))
        return bytes(model.SerializeToString())

    def _weight_list(self) -> list[Weight]:
        return [weight for weight in self.weights.values() if isinstance(weight, Weight)]

    def _read(self, body: onnx.GraphProto) -> list[_Node]:
        """Reads the operations, and stores weights and constants."""
        initializers = {tensor.name: numpy_helper.to_array(tensor) for tensor in body.initializer}
        taking = [node for node in body.node if node.op_type in _TAKE_WEIGHTS]
        learnable = {name for node in taking for name in node.input[1:3]}
        nodes = []
        for node in body.node:
            attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
            if node.op_type == "DequantizeLinear" and node.input[0] in initializers:
                first, *rest = (initializers[name] for name in node.input)
                zero = rest[1] if len(rest) > 1 else np.zeros(rest[0].size, first.dtype)
                weight = Weight(first, rest[0], zero, attributes.get("axis", 1))
                self._add_weight(node.input[0], node.output[0], weight, node.output[0] in learnable)
                continue
            _check(node, attributes, initializers)
            nodes.append(
                _Node(OPERATIONS[node.op_type], attributes, tuple(node.input), node.output[0])
            )
        for name in dict.fromkeys(
            name for node in nodes for name in node.inputs if name in initializers
        ):
            numbers = initializers[name]
            if name in learnable and numbers.dtype == np.float32:
                float_weight = Weight(numbers, np.ones(1, np.float32), np.zeros(1), 0)
                self._add_weight(name, name, float_weight, learnable_value=True)
            else:
                self._add_constant(name, torch.tensor(numbers))
        return nodes

    def _add_weight(self, tensor: str, value: str, weight: Weight, learnable_value: bool) -> None:
        if not learnable_value:
            self._add_constant(value, weight.weight.detach())
            return
        keys = {name: key for key, name in self._tensor_names.items()}
        key = keys.get(tensor, str(len(self.weights)))
        if tensor not in keys:
            self.weights[key], self._tensor_names[key] = weight, tensor
        self._weights[value] = key

    def _add_constant(self, value: str, constant: torch.Tensor) -> None:
        buffer = f"constant{len(self._constants)}"
        self.register_buffer(buffer, constant, persistent=False)
        self._constants[value] = buffer

    def _last_uses(self) -> list[list[str]]:
        """The values that can be freed after each node, to save memory."""
        used_later, dead = {"", self._output, *self._constants}, []
        for node in reversed(self._nodes):
            dead.append([name for name in dict.fromkeys(node.inputs) if name not in used_later])
            used_later.update(node.inputs)
        return dead[::-1]


def _check(
    node: onnx.NodeProto, attributes: Mapping[str, Any], initializers: Mapping[str, Numbers]
) -> None:
    """Checks that PyTorch computes the same as ONNX Runtime for a node."""
    fault = None
    if node.op_type not in OPERATIONS or node.domain not in ("", "ai.onnx"):
        fault = f"operator {node.op_type} is"
    elif len(node.output) > 1 or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        fault = f"this form of operator {node.op_type} is"
    elif node.op_type == "QuantizeLinear":
        zero = initializers.get(node.input[2]) if len(node.input) > 2 else None
        if zero is None or zero.size != 1 or zero.dtype not in _BYTES:
            fault = "activations that are not 8-bit are"
    if fault:
        raise ModelFileError(f"{fault} not supported for quantization-aware training.")
