"""Fewer passes over activations for the same numbers, for as long as a network trains.

Where batch norm's statistics stay, it is a factor and a shift a channel: the same factor on the
weights of the convolution before it gives the same output and the same gradients, without a pass
over all activations forwards, two of them backwards, and a second copy kept. Of ReLU6 its result is
kept, which tells the gradient as well as the copy of its input does that PyTorch makes. Weights,
names and state stay as they are.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.autograd.function import FunctionCtx
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

Pair = tuple[nn.Conv2d, nn.BatchNorm2d]
_CLOSE = 1e-3
"""Of the largest output: rounding stays far below it, a wrong pair far above."""


@dataclass(frozen=True)
class Fusion:
    """What is done in one pass.

    Attributes:
        pairs: Convolutions whose output is read by one batch norm, and by nothing else.
        clamps: Every ReLU6.
    """

    pairs: tuple[Pair, ...] = ()
    clamps: tuple[nn.ReLU6, ...] = ()


def find_fusion(network: nn.Module, inputs: torch.Tensor) -> Fusion:
    """What of a network can be done in one pass.

    Args:
        network: Any; left as it is.
        inputs: A few of what it reads.

    Returns:
        Nothing where the network would not give the same with it.
    """
    clamps = tuple(m for m in network.modules() if type(m) is nn.ReLU6)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), _in_evaluation(network):
        pairs, plain = _pairs(network, inputs)
        found = Fusion(pairs, clamps)
        with fused(found):
            output = network(inputs)
    # A skip connection that reads a convolution's output too is seen by no hook, but here.
    same = (output - plain).abs().max() <= _CLOSE * plain.abs().max()
    return found if bool(same) else Fusion()


@contextmanager
def fused(fusion: Fusion) -> Iterator[None]:
    """While it lasts, batch norm in evaluation mode is done by the convolution before it.

    Args:
        fusion: From `find_fusion`; pairs whose batch norm is in training mode are left alone.

    Yields:
        None: Nothing.
    """
    changed: list[nn.Module] = []
    try:
        # On the instances: no other network may be touched.
        for convolution, norm in fusion.pairs:
            if not norm.training:
                changed += [convolution, norm]
                vars(convolution)["forward"] = functools.partial(_convolved, convolution, norm)
                vars(norm)["forward"] = functools.partial(_activated, norm)
        for clamp in fusion.clamps:
            changed.append(clamp)
            vars(clamp)["forward"] = functools.partial(_clamped, clamp)
        yield
    finally:
        for module in changed:
            del vars(module)["forward"]


def _convolved(convolution: nn.Conv2d, norm: nn.BatchNorm2d, inputs: torch.Tensor) -> torch.Tensor:
    assert norm.running_var is not None  # see _is_foldable
    assert norm.running_mean is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    if convolution.bias is not None:
        shift = shift + convolution.bias * scale
    weight = convolution.weight * scale[:, None, None, None]
    # The layer's own class convolves, because subclasses may pad the images in another way.
    with _instead_of_parameters(convolution, weight, shift):
        result: torch.Tensor = type(convolution).forward(convolution, inputs)
    return result


@contextmanager
def _instead_of_parameters(
    convolution: nn.Conv2d, weight: torch.Tensor, bias: torch.Tensor
) -> Iterator[None]:
    """Plain tensors in place of a convolution's weight and bias."""
    own = dict(convolution.named_parameters(recurse=False))
    del convolution.weight, convolution.bias
    vars(convolution).update(weight=weight, bias=bias)
    try:
        yield
    finally:
        del convolution.weight, convolution.bias
        convolution.register_parameter("weight", own["weight"])
        convolution.register_parameter("bias", own.get("bias"))


def _activated(norm: nn.BatchNorm2d, inputs: torch.Tensor) -> torch.Tensor:
    """What timm's layers do after the norm itself."""
    if isinstance(norm, BatchNormAct2d):
        result: torch.Tensor = norm.act(norm.drop(inputs))
        return result
    return inputs


def _clamped(module: nn.ReLU6, inputs: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = _Clamp.apply(inputs, module.inplace)
    return result


class _Clamp(torch.autograd.Function):
    """To [0, 6]: the gradient passes where the result lies between the two."""

    @staticmethod
    def forward(ctx: FunctionCtx, inputs: torch.Tensor, in_place: bool) -> torch.Tensor:
        if in_place:
            ctx.mark_dirty(inputs)
        result = inputs.clamp_(0, 6) if in_place else inputs.clamp(0, 6)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (result,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return torch.ops.aten.hardtanh_backward(gradients[0], result, 0, 6), None


def _is_plain(convolution: nn.Conv2d) -> bool:
    """Whether weight and bias are all there is: an adapter would change the weight."""
    own = {name for name, _ in convolution.named_parameters(recurse=False)}
    return own | {"bias"} == {"weight", "bias"} and not parametrize.is_parametrized(convolution)


def _is_foldable(norm: nn.Module) -> bool:
    known = type(norm) in (nn.BatchNorm2d, BatchNormAct2d)
    return known and norm.running_mean is not None and norm.weight is not None


def _pairs(network: nn.Module, inputs: torch.Tensor) -> tuple[tuple[Pair, ...], torch.Tensor]:
    """By what each layer is given; and the network's output."""
    made: list[tuple[nn.Conv2d, torch.Tensor]] = []
    read: list[tuple[nn.BatchNorm2d, torch.Tensor]] = []
    handles: list[RemovableHandle] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and _is_plain(module):
            handles.append(module.register_forward_hook(lambda m, _, out: made.append((m, out))))
        elif _is_foldable(module):
            handles.append(module.register_forward_pre_hook(lambda m, x: read.append((m, x[0]))))
    try:
        output: torch.Tensor = network(inputs)
    finally:
        for handle in handles:
            handle.remove()
    readers = {id(given): norm for norm, given in read}
    calls = [id(module) for module, _ in (*made, *read)]
    pairs = ((conv, readers[id(out)]) for conv, out in made if id(out) in readers)
    once = tuple(p for p in pairs if calls.count(id(p[0])) == calls.count(id(p[1])) == 1)
    return once, output


@contextmanager
def _in_evaluation(network: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
