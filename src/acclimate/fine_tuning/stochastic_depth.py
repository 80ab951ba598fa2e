"""Dropout and stochastic depth on a network that was built without them."""

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
def stochastic(network: nn.Module, dropout: float, drop_path: float) -> Iterator[str]:
    """Drops features and residual branches at random while the network is in training mode.

    Dropout (Srivastava et al. 2014) acts on what the last layer reads, stochastic depth (Huang et
    al. 2016, arXiv 1603.09382) on residual branches, rising linearly from the input to the rate
    given. Both are gone when the context ends.

    Args:
        network: Changed in place while the context lasts.
        dropout: Probability, in [0, 1); 0 changes nothing.
        drop_path: Probability at the last branch, in [0, 1); 0 changes nothing.

    Yields:
        str: What could not be done, one sentence; empty when all was.
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
    without = f"{type(network).__name__} has no residual branches that drop_path could drop."
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
    """Where timm and torchvision put stochastic depth, from input to head."""
    found: list[tuple[nn.Module, str]] = []
    for module in network.modules():
        if getattr(module, "has_skip", True) is False:
            continue  # a block without a residual branch: its only path is not to be dropped
        for name in _NAMES:
            there = getattr(module, name, "absent")
            if there is None or isinstance(there, (DropPath, nn.Identity)):
                found.append((module, name))
        depth = getattr(module, "stochastic_depth", None)
        if isinstance(depth, StochasticDepth):
            found.append((module, "stochastic_depth"))
    return found
