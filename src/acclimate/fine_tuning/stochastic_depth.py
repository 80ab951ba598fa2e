"""Dropout and stochastic depth for a network that was built without them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers import DropPath
from torch import nn
from torch.nn import functional
from torchvision.ops import StochasticDepth

from acclimate.models.structure import head_names

_NAMES = ("drop_path", "drop_path1", "drop_path2")


@contextmanager
def stochastic_layers(network: nn.Module, dropout: float, drop_path: float) -> Iterator[str]:
    """Adds dropout and stochastic depth to a network, until the context ends.

    Dropout (Srivastava et al. 2014) acts on the input of the last layer, stochastic depth (Huang
    et al. 2016, arXiv 1603.09382) on residual branches, with a rate that rises linearly from the
    first branch to the last.

    Args:
        network: Changed in place while the context lasts.
        dropout: Probability, in [0, 1); 0 changes nothing.
        drop_path: Probability at the last branch, in [0, 1); 0 changes nothing.

    Yields:
        str: A warning if the network has no residual branches; otherwise empty.
    """
    hooks = []
    if dropout:
        for name in dict.fromkeys(head_names(network)):
            layer = network.get_submodule(name)
            hooks.append(layer.register_forward_pre_hook(_dropping(dropout)))
    branches = _branches(network) if drop_path else []
    before = [(parent, name, getattr(parent, name)) for parent, name in branches]
    for index, (parent, name) in enumerate(branches, 1):
        setattr(parent, name, _depth(getattr(parent, name), drop_path * index / len(branches)))
    without = f"{type(network).__name__} has no residual branches, so drop_path has no effect."
    try:
        yield without if drop_path and not branches else ""
    finally:
        for hook in hooks:
            hook.remove()
        for parent, name, module in before:
            if module is None:
                delattr(parent, name)
            setattr(parent, name, module)


def _dropping(probability: float) -> Any:  # noqa: ANN401 - a hook
    def drop(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return functional.dropout(inputs[0], probability, module.training), *inputs[1:]

    return drop


def _depth(before: nn.Module | None, probability: float) -> nn.Module:
    depth: nn.Module = DropPath(probability)
    if isinstance(before, StochasticDepth):
        depth = StochasticDepth(probability, before.mode)
    return depth


def _branches(network: nn.Module) -> list[tuple[nn.Module, str]]:
    """The places where timm and torchvision put stochastic depth, from input to head."""
    found: list[tuple[nn.Module, str]] = []
    for module in network.modules():
        if getattr(module, "has_skip", True) is False:
            continue  # a block without a residual branch: its only path must not be dropped
        for name in _NAMES:
            there = getattr(module, name, "absent")
            if there is None or isinstance(there, (DropPath, nn.Identity)):
                found.append((module, name))
        depth = getattr(module, "stochastic_depth", None)
        if isinstance(depth, StochasticDepth):
            found.append((module, "stochastic_depth"))
    return found
