"""What the operators of an ONNX graph compute, in PyTorch, so that gradients flow back."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional

Attributes = Mapping[str, Any]
Operation = Callable[..., torch.Tensor]
"""(attributes, inputs in order; None where one is left out) to the only output."""


def _conv(
    told: Attributes, images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    return functional.conv2d(
        functional.pad(images, _pads(told)),
        weight,
        bias,
        told.get("strides", 1),
        dilation=told.get("dilations", 1),
        groups=told.get("group", 1),
    )


def _pads(told: Attributes) -> list[int]:
    """ONNX names all beginnings, then all ends; PyTorch pairs, the last axis first."""
    top, left, bottom, right = told.get("pads", (0, 0, 0, 0))
    return [left, right, top, bottom]


def _max_pool(told: Attributes, images: torch.Tensor) -> torch.Tensor:
    padded = functional.pad(images, _pads(told), value=float("-inf"))
    strides, whole = told.get("strides", 1), bool(told.get("ceil_mode", 0))
    return functional.max_pool2d(padded, told["kernel_shape"], strides, ceil_mode=whole)


def _average_pool(told: Attributes, images: torch.Tensor) -> torch.Tensor:
    pads = _pads(told)
    return functional.avg_pool2d(
        images,
        told["kernel_shape"],
        told.get("strides", 1),
        (pads[2], pads[0]),
        ceil_mode=bool(told.get("ceil_mode", 0)),
        count_include_pad=bool(told.get("count_include_pad", 0)),
    )


def _gemm(
    told: Attributes, left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    left = left.T if told.get("transA") else left
    right = right.T if told.get("transB") else right
    product: torch.Tensor = told.get("alpha", 1.0) * (left @ right)
    return product if bias is None else product + told.get("beta", 1.0) * bias


def _batch_norm(
    told: Attributes,
    images: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
) -> torch.Tensor:
    return functional.batch_norm(images, mean, variance, scale, bias, eps=told.get("epsilon", 1e-5))


def _layer_norm(
    told: Attributes, values: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    sides = values.shape[told.get("axis", -1) :]
    return functional.layer_norm(values, sides, scale, bias, told.get("epsilon", 1e-5))


def _clip(
    told: Attributes,
    values: torch.Tensor,
    low: torch.Tensor | None = None,
    high: torch.Tensor | None = None,
) -> torch.Tensor:
    return torch.clamp(values, low, high)


def _hard_sigmoid(told: Attributes, values: torch.Tensor) -> torch.Tensor:
    return torch.clamp(values * told.get("alpha", 0.2) + told.get("beta", 0.5), 0, 1)


def _reduce_mean(
    told: Attributes, values: torch.Tensor, axes: torch.Tensor | None = None
) -> torch.Tensor:
    return values.mean(_axes(told, values, axes), keepdim=bool(told.get("keepdims", 1)))


def _reduce_l2(
    told: Attributes, values: torch.Tensor, axes: torch.Tensor | None = None
) -> torch.Tensor:
    keep = bool(told.get("keepdims", 1))
    # Not the root of a sum, whose slope at 0 is no number.
    norm: torch.Tensor = torch.linalg.vector_norm(
        values, dim=_axes(told, values, axes), keepdim=keep
    )
    return norm


def _axes(told: Attributes, values: torch.Tensor, axes: torch.Tensor | None) -> list[int]:
    """An attribute before opset 18, an input since; all of them where neither says."""
    return list(told.get("axes") or (range(values.ndim) if axes is None else axes.tolist()))


def _reshape(told: Attributes, values: torch.Tensor, sides: torch.Tensor) -> torch.Tensor:
    return values.reshape([n or values.shape[i] for i, n in enumerate(sides.tolist())])


def _flatten(told: Attributes, values: torch.Tensor) -> torch.Tensor:
    return values.reshape(values.shape[: told.get("axis", 1)].numel(), -1)


def _slice(
    told: Attributes,
    values: torch.Tensor,
    starts: torch.Tensor,
    ends: torch.Tensor,
    axes: torch.Tensor | None = None,
    steps: torch.Tensor | None = None,
) -> torch.Tensor:
    where = range(len(starts)) if axes is None else axes.tolist()
    strides = [1] * len(starts) if steps is None else steps.tolist()
    cuts = [slice(None)] * values.ndim
    for axis, start, end, step in zip(where, starts.tolist(), ends.tolist(), strides, strict=True):
        side = values.shape[axis]  # ONNX writes 2**63 where it means the end
        cuts[axis] = slice(max(-side, min(start, side)), max(-side, min(end, side)), step)
    return values[tuple(cuts)]


def _squeeze(told: Attributes, values: torch.Tensor, axes: torch.Tensor) -> torch.Tensor:
    return values.squeeze(axes.tolist())


def _unsqueeze(told: Attributes, values: torch.Tensor, axes: torch.Tensor) -> torch.Tensor:
    for axis in sorted(axes.tolist()):
        values = values.unsqueeze(axis)
    return values


def _gather(told: Attributes, values: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    axis = told.get("axis", 0) % values.ndim
    found = values.index_select(axis, indices.reshape(-1).to(values.device))
    return found.reshape(*values.shape[:axis], *indices.shape, *values.shape[axis + 1 :])


def _shape(told: Attributes, values: torch.Tensor) -> torch.Tensor:
    sides = values.shape[told.get("start", 0) : told.get("end")]
    return torch.tensor(sides, device=values.device)


def _expand(told: Attributes, values: torch.Tensor, sides: torch.Tensor) -> torch.Tensor:
    return values * torch.ones(sides.tolist(), dtype=values.dtype, device=values.device)


def _quantize(
    told: Attributes, values: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor
) -> torch.Tensor:
    """Rounds to the steps of 8 bits and gives real numbers again; the gradient passes straight."""
    bounds = (0, 255) if zero.dtype == torch.uint8 else (-128, 127)
    known = scale.reshape(1), zero.reshape(1).to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(values.float(), *known, *bounds)


OPERATIONS: dict[str, Operation] = {
    "Add": lambda told, a, b: a + b,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": lambda told, *parts: torch.cat(parts, told["axis"]),
    "Conv": _conv,
    "DequantizeLinear": lambda told, a, *known: a,
    "Div": lambda told, a, b: a / b,
    "Erf": lambda told, a: torch.erf(a),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": lambda told, a: functional.gelu(
        a, approximate=told.get("approximate", b"none").decode()
    ),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda told, a: a.mean((2, 3), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda told, a: functional.hardswish(a),
    "Identity": lambda told, a: a,
    "LayerNormalization": _layer_norm,
    "MatMul": lambda told, a, b: a @ b,
    "MaxPool": _max_pool,
    "Mul": lambda told, a, b: a * b,
    "Pow": lambda told, a, b: a**b,
    "QuantizeLinear": _quantize,
    "Range": lambda told, a, b, step: torch.arange(a.item(), b.item(), step.item()).to(a.device),
    "ReduceL2": _reduce_l2,
    "ReduceMean": _reduce_mean,
    "Relu": lambda told, a: functional.relu(a),
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": lambda told, a: torch.sigmoid(a),
    "Slice": _slice,
    "Sqrt": lambda told, a: a.sqrt(),
    "Softmax": lambda told, a: torch.softmax(a, told.get("axis", -1)),
    "Squeeze": _squeeze,
    "Sub": lambda told, a, b: a - b,
    "Tanh": lambda told, a: torch.tanh(a),
    "Transpose": lambda told, a: a.permute(told["perm"]),
    "Unsqueeze": _unsqueeze,
}
"""Name to what computes it: those that quantized image classifiers are made of."""
