"""Fuses frozen batch norm into convolutions during training: same results, fewer passes.

Batch norm with fixed statistics scales and shifts each channel. Scaling the weights of the
preceding convolution instead gives the same output and gradients, and saves one forward and two
backward passes over the activations and a stored copy of them. For ReLU6 the output is stored
instead of the input, as the gradient can be computed from either. Weights, names and state stay as
they are.
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
"""Tolerance relative to the largest output, far above rounding and far below a wrong pair."""


@dataclass(frozen=True)
class Fusion:
    """The layers to fuse.

    Attributes:
        pairs: Convolutions whose output is the input of one batch norm and of nothing else.
        clamps: All ReLU6 layers.
    """

    pairs: tuple[Pair, ...] = ()
    clamps: tuple[nn.ReLU6, ...] = ()


def find_fusion(network: nn.Module, inputs: torch.Tensor) -> Fusion:
    """Finds the layers of a network that can be fused.

    Args:
        network: Any network; unchanged.
        inputs: A few inputs of the network.

    Returns:
        The layers; none if fusing them would change the output.
    """
    clamps = tuple(m for m in network.modules() if type(m) is nn.ReLU6)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), _in_evaluation(network):
        pairs, plain = _pairs(network, inputs)
        found = Fusion(pairs, clamps)
        with fused(found):
            output = network(inputs)
    # No hook notices a skip connection that also uses the output of a convolution; this does.
    same = (output - plain).abs().max() <= _CLOSE * plain.abs().max()
    return found if bool(same) else Fusion()


@contextmanager
def fused(fusion: Fusion) -> Iterator[None]:
    """Lets convolutions apply the batch norm in evaluation mode that follows them.

    Args:
        fusion: From `find_fusion`. Pairs whose batch norm is in training mode are not fused.

    Yields:
        None: Nothing.
    """
    changed: list[nn.Module] = []
    try:
        # Patched on the instances, so that other networks are not affected.
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
    """What the layers of timm do after the norm itself."""
    if isinstance(norm, BatchNormAct2d):
        result: torch.Tensor = norm.act(norm.drop(inputs))
        return result
    return inputs


def _clamped(module: nn.ReLU6, inputs: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = _Clamp.apply(inputs, module.inplace)
    return result


class _Clamp(torch.autograd.Function):
    """Clamps to [0, 6]; the gradient passes for results between the two."""

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
    """Pairs found by the tensors that layers exchange, and the output of the network."""
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
