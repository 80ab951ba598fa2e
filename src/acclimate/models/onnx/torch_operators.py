"""ONNX operators in PyTorch, with gradients."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional

Attributes = Mapping[str, Any]
Operation = Callable[..., torch.Tensor]
"""A function of (attributes, *inputs) that returns the only output; an omitted input is None."""


def _conv(
    attributes: Attributes,
    images: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    return functional.conv2d(
        functional.pad(images, _pads(attributes)),
        weight,
        bias,
        attributes.get("strides", 1),
        dilation=attributes.get("dilations", 1),
        groups=attributes.get("group", 1),
    )


def _pads(attributes: Attributes) -> list[int]:
    """ONNX lists all begins, then all ends; PyTorch lists pairs, the last axis first."""
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    return [left, right, top, bottom]


def _max_pool(attributes: Attributes, images: torch.Tensor) -> torch.Tensor:
    padded = functional.pad(images, _pads(attributes), value=float("-inf"))
    strides, whole = attributes.get("strides", 1), bool(attributes.get("ceil_mode", 0))
    return functional.max_pool2d(padded, attributes["kernel_shape"], strides, ceil_mode=whole)


def _average_pool(attributes: Attributes, images: torch.Tensor) -> torch.Tensor:
    pads = _pads(attributes)
    return functional.avg_pool2d(
        images,
        attributes["kernel_shape"],
        attributes.get("strides", 1),
        (pads[2], pads[0]),
        ceil_mode=bool(attributes.get("ceil_mode", 0)),
        count_include_pad=bool(attributes.get("count_include_pad", 0)),
    )


def _gemm(
    attributes: Attributes,
    left: torch.Tensor,
    right: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    left = left.T if attributes.get("transA") else left
    right = right.T if attributes.get("transB") else right
    product: torch.Tensor = attributes.get("alpha", 1.0) * (left @ right)
    return product if bias is None else product + attributes.get("beta", 1.0) * bias


def _batch_norm(
    attributes: Attributes,
    images: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
) -> torch.Tensor:
    return functional.batch_norm(
        images, mean, variance, scale, bias, eps=attributes.get("epsilon", 1e-5)
    )


def _layer_norm(
    attributes: Attributes,
    values: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    sides = values.shape[attributes.get("axis", -1) :]
    return functional.layer_norm(values, sides, scale, bias, attributes.get("epsilon", 1e-5))


def _clip(
    attributes: Attributes,
    values: torch.Tensor,
    low: torch.Tensor | None = None,
    high: torch.Tensor | None = None,
) -> torch.Tensor:
    return torch.clamp(values, low, high)


def _hard_sigmoid(attributes: Attributes, values: torch.Tensor) -> torch.Tensor:
    return torch.clamp(values * attributes.get("alpha", 0.2) + attributes.get("beta", 0.5), 0, 1)


def _reduce_mean(
    attributes: Attributes, values: torch.Tensor, axes: torch.Tensor | None = None
) -> torch.Tensor:
    return values.mean(_axes(attributes, values, axes), keepdim=bool(attributes.get("keepdims", 1)))


def _reduce_l2(
    attributes: Attributes, values: torch.Tensor, axes: torch.Tensor | None = None
) -> torch.Tensor:
    keep = bool(attributes.get("keepdims", 1))
    # Not the square root of a sum, whose gradient at 0 is not finite.
    norm: torch.Tensor = torch.linalg.vector_norm(
        values, dim=_axes(attributes, values, axes), keepdim=keep
    )
    return norm


def _axes(attributes: Attributes, values: torch.Tensor, axes: torch.Tensor | None) -> list[int]:
    """The axes: an attribute before opset 18, an input since; all axes if both are missing."""
    return list(attributes.get("axes") or (range(values.ndim) if axes is None else axes.tolist()))


def _reshape(attributes: Attributes, values: torch.Tensor, sides: torch.Tensor) -> torch.Tensor:
    return values.reshape([n or values.shape[i] for i, n in enumerate(sides.tolist())])


def _flatten(attributes: Attributes, values: torch.Tensor) -> torch.Tensor:
    return values.reshape(values.shape[: attributes.get("axis", 1)].numel(), -1)


def _slice(
    attributes: Attributes,
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
        side = values.shape[axis]  # ONNX writes 2**63 - 1 for the end
        cuts[axis] = slice(max(-side, min(start, side)), max(-side, min(end, side)), step)
    return values[tuple(cuts)]


def _squeeze(attributes: Attributes, values: torch.Tensor, axes: torch.Tensor) -> torch.Tensor:
    return values.squeeze(axes.tolist())


def _unsqueeze(attributes: Attributes, values: torch.Tensor, axes: torch.Tensor) -> torch.Tensor:
    for axis in sorted(axes.tolist()):
        values = values.unsqueeze(axis)
    return values


def _gather(attributes: Attributes, values: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    axis = attributes.get("axis", 0) % values.ndim
    found = values.index_select(axis, indices.reshape(-1).to(values.device))
    return found.reshape(*values.shape[:axis], *indices.shape, *values.shape[axis + 1 :])


def _shape(attributes: Attributes, values: torch.Tensor) -> torch.Tensor:
    sides = values.shape[attributes.get("start", 0) : attributes.get("end")]
    return torch.tensor(sides, device=values.device)


def _expand(attributes: Attributes, values: torch.Tensor, sides: torch.Tensor) -> torch.Tensor:
    return values * torch.ones(sides.tolist(), dtype=values.dtype, device=values.device)


def _quantize(
    attributes: Attributes, values: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor
) -> torch.Tensor:
    """Rounds to the steps of 8 bits and gives real numbers again; the gradient passes straight."""
    bounds = (0, 255) if zero.dtype == torch.uint8 else (-128, 127)
    known = scale.reshape(1), zero.reshape(1).to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(values.float(), *known, *bounds)


OPERATIONS: dict[str, Operation] = {
    "Add": lambda attributes, a, b: a + b,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": lambda attributes, *parts: torch.cat(parts, attributes["axis"]),
    "Conv": _conv,
    "DequantizeLinear": lambda attributes, a, *known: a,
    "Div": lambda attributes, a, b: a / b,
    "Erf": lambda attributes, a: torch.erf(a),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": lambda attributes, a: functional.gelu(
        a, approximate=attributes.get("approximate", b"none").decode()
    ),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda attributes, a: a.mean((2, 3), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda attributes, a: functional.hardswish(a),
    "Identity": lambda attributes, a: a,
    "LayerNormalization": _layer_norm,
    "MatMul": lambda attributes, a, b: a @ b,
    "MaxPool": _max_pool,
    "Mul": lambda attributes, a, b: a * b,
    "Pow": lambda attributes, a, b: a**b,
    "QuantizeLinear": _quantize,
    "Range": lambda attributes, a, b, step: torch.arange(a.item(), b.item(), step.item()).to(
        a.device
    ),
    "ReduceL2": _reduce_l2,
    "ReduceMean": _reduce_mean,
    "Relu": lambda attributes, a: functional.relu(a),
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": lambda attributes, a: torch.sigmoid(a),
    "Slice": _slice,
    "Sqrt": lambda attributes, a: a.sqrt(),
    "Softmax": lambda attributes, a: torch.softmax(a, attributes.get("axis", -1)),
    "Squeeze": _squeeze,
    "Sub": lambda attributes, a, b: a - b,
    "Tanh": lambda attributes, a: torch.tanh(a),
    "Transpose": lambda attributes, a: a.permute(attributes["perm"]),
    "Unsqueeze": _unsqueeze,
}
"""Name to function, for the operators of quantized image classifiers."""
