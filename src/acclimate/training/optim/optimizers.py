"""Optimizers, and the parameter groups with their learning rates."""

from collections.abc import Callable
from typing import Any

import timm.optim
import torch
from schedulefree import AdamWScheduleFree
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
        Groups for a PyTorch optimizer, each with its `peak` rate, and whether it `ends` the
        network: optimizers for hidden layers, such as Muon, leave the last block to another.
    """
    parts = blocks(network)
    groups: Groups = []
    seen: set[int] = set()
    for index, (_, module) in enumerate(parts):
        peak = learning_rate * layer_decay ** (len(parts) - 1 - index)
        made = _decayed(list(module.parameters()), peak, weight_decay, seen)
        groups += [{**group, "ends": index == len(parts) - 1} for group in made]
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


def lion(groups: Groups) -> torch.optim.Optimizer:
    """Lion: the sign of a momentum (Chen et al. 2023, arXiv 2302.06675), as timm has it.

    All its steps are of full size: rates of a tenth to a third of AdamW's, and as many times more
    weight decay.
    """
    optimizer: torch.optim.Optimizer = timm.optim.Lion(groups, betas=(0.9, 0.99))
    return optimizer


def muon(groups: Groups) -> torch.optim.Optimizer:
    """Muon: orthogonal steps for matrices (Jordan et al. 2024), as timm has it.

    Convolutions are taken as matrices (out, in times window). Depthwise ones, vectors and the last
    block learn by AdamW. Steps are scaled to the size that AdamW's have (Liu et al. 2025,
    arXiv 2502.16982), so AdamW's rates and weight decay hold.
    """
    routed = [{**g, "use_fallback": True} if g.get("ends") else g for g in groups]
    # PyTorch's own refuses all that is not of two dimensions.
    optimizer: torch.optim.Optimizer = timm.optim.Muon(
        routed, momentum=0.95, betas=(0.9, 0.999), adjust_lr_fn="match_rms_adamw"
    )
    return optimizer


def schedule_free(groups: Groups) -> torch.optim.Optimizer:
    """Schedule-free AdamW (Defazio et al. 2024, arXiv 2405.15682), by its authors.

    Weights are an average over the steps, in place of a falling rate: `eval_mode` puts it in place.
    """
    optimizer: torch.optim.Optimizer = AdamWScheduleFree(groups)
    return optimizer


OPTIMIZERS: dict[str, OptimizerFactory] = {
    "adamw": adamw,
    "sgd": sgd,
    "lion": lion,
    "muon": muon,
    "schedule_free": schedule_free,
}
"""Parameter groups, each with rate and weight decay, to an optimizer."""


def train_mode(optimizer: torch.optim.Optimizer) -> None:
    """Puts the weights at which gradients are taken in place; most rules have but one set."""
    if isinstance(optimizer, AdamWScheduleFree):
        optimizer.train()


def eval_mode(optimizer: torch.optim.Optimizer) -> None:
    """Puts the weights that are the result in place: before val, and before they are kept."""
    if isinstance(optimizer, AdamWScheduleFree):
        optimizer.eval()
