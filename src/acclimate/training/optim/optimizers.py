"""Optimizers, and the parameter groups with their learning rates."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm.optim.muon
import torch
from schedulefree import AdamWScheduleFree
from timm.optim.muon import zeropower_via_newtonschulz
from torch import nn

from acclimate.errors import ModelFileError
from acclimate.models.structure import blocks

Groups = list[dict[str, Any]]
OptimizerFactory = Callable[[Groups], torch.optim.Optimizer]


def parameter_groups(
    network: nn.Module, *, learning_rate: float, layer_decay: float, weight_decay: float
) -> Groups:
    """Parameter groups by depth, with lower learning rates towards the input.

    Source: Howard and Ruder 2018, "discriminative fine-tuning", arXiv 1801.06146; here by block
    instead of layer.

    Args:
        network: The network; its frozen parameters are left out.
        learning_rate: Peak learning rate of the last block, the head.
        layer_decay: Factor on the learning rate from each block to the one before it.
        weight_decay: Weight decay of parameters with two or more dimensions.

    Returns:
        Groups for a PyTorch optimizer, each with its `peak` rate, and whether it `ends` the
        network: optimizers for hidden layers, such as Muon, leave the last block to another.

    Raises:
        ModelFileError: The network has no parameters that can be trained.
    """
    parts = blocks(network)
    groups: Groups = []
    seen: set[int] = set()
    for index, (_, module) in enumerate(parts):
        peak = learning_rate * layer_decay ** (len(parts) - 1 - index)
        made = _decayed(list(module.parameters()), peak, weight_decay, seen)
        groups += [{**group, "ends": index == len(parts) - 1} for group in made]
    # Parameters outside of the blocks, such as a class token.
    groups += _decayed(
        list(network.parameters()), learning_rate * layer_decay ** len(parts), weight_decay, seen
    )
    if not groups:
        raise ModelFileError(
            f"all parameters of {type(network).__name__} are frozen, so there is nothing to train.",
            hint="Set requires_grad of the layers to train, such as the head: "
            "layer.requires_grad_(True).",
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
    """Whether a fused kernel can be used: a fifth more steps per second for small images on CPU."""
    return all(p.device.type in ("cpu", "cuda") for g in groups for p in g["params"])


def adamw(groups: Groups) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101)."""
    return torch.optim.AdamW(groups, fused=_can_fuse(groups))


def sgd(groups: Groups) -> torch.optim.Optimizer:
    """Stochastic gradient descent with Nesterov's momentum of 0.9."""
    return torch.optim.SGD(groups, momentum=0.9, nesterov=True, fused=_can_fuse(groups))


def lion(groups: Groups) -> torch.optim.Optimizer:
    """Lion: the sign of a momentum (Chen et al. 2023, arXiv 2302.06675), as timm has it.

    All its steps have full size: it needs a tenth to a third of AdamW's learning rate, and as many
    times more weight decay.
    """
    optimizer: torch.optim.Optimizer = timm.optim.Lion(groups, betas=(0.9, 0.99))
    return optimizer


class Muon(timm.optim.Muon):  # type: ignore[misc]  # timm has no types
    """timm's Muon with its iterations in float32 on a CPU.

    timm computes them in bfloat16, for which most CPUs have no instructions: a step on
    EfficientNet-Lite0 takes 5.3 s instead of 0.3 s.
    """

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Updates the weights once.

        Args:
            closure: Computes the loss again.

        Returns:
            The loss of the closure, if there is one.
        """
        iterations = timm.optim.muon.zeropower_via_newtonschulz
        timm.optim.muon.zeropower_via_newtonschulz = _orthogonalized
        try:
            loss: float | None = super().step(closure)
        finally:
            timm.optim.muon.zeropower_via_newtonschulz = iterations
        return loss


def _orthogonalized(matrix: torch.Tensor, *more: Any, **options: Any) -> torch.Tensor:  # noqa: ANN401 - timm's
    dtype = torch.float32 if matrix.device.type == "cpu" else torch.bfloat16
    result: torch.Tensor = zeropower_via_newtonschulz(matrix, *more, dtype=dtype, **options)
    return result


def muon(groups: Groups) -> torch.optim.Optimizer:
    """Muon: orthogonal steps for matrices (Jordan et al. 2024), as timm has it.

    Convolutions are treated as matrices (out, in times window). Depthwise convolutions, vectors and
    the last block are updated by AdamW. Steps are scaled to the size of AdamW's (Liu et al. 2025,
    arXiv 2502.16982), so that its learning rates and weight decay can be used.
    """
    routed = [{**g, "use_fallback": True} if g.get("ends") else g for g in groups]
    # PyTorch's Muon only accepts matrices.
    optimizer: torch.optim.Optimizer = Muon(
        routed, momentum=0.95, betas=(0.9, 0.999), adjust_lr_fn="match_rms_adamw"
    )
    return optimizer


def schedule_free(groups: Groups) -> torch.optim.Optimizer:
    """Schedule-free AdamW (Defazio et al. 2024, arXiv 2405.15682), by its authors.

    An average of the weights over the steps replaces a falling learning rate; `eval_mode`
    installs it.
    """
    optimizer: torch.optim.Optimizer = AdamWScheduleFree(groups)
    return optimizer


@dataclass(frozen=True)
class Optimizer:
    """An optimizer that settings may name.

    Attributes:
        create: Parameter groups, each with learning rate and weight decay, to an optimizer.
        title: Name in messages.
        learning_rate: Default peak learning rate for batches of 32.
    """

    create: OptimizerFactory
    title: str
    learning_rate: float


# All of Lion's steps have full size (its authors advise a third to a tenth of AdamW's rate);
# Muon's steps are scaled to the size of AdamW's.
OPTIMIZERS: dict[str, Optimizer] = {
    "adamw": Optimizer(adamw, "AdamW", 5e-4),
    "sgd": Optimizer(sgd, "SGD", 1e-2),
    "lion": Optimizer(lion, "Lion", 1e-4),
    "muon": Optimizer(muon, "Muon", 5e-4),
    "schedule_free": Optimizer(schedule_free, "schedule-free AdamW", 5e-4),
}


def train_mode(optimizer: torch.optim.Optimizer) -> None:
    """Installs the weights at which gradients are computed; most optimizers have only one set."""
    if isinstance(optimizer, AdamWScheduleFree):
        optimizer.train()


def eval_mode(optimizer: torch.optim.Optimizer) -> None:
    """Installs the resulting weights, before validation and before they are copied."""
    if isinstance(optimizer, AdamWScheduleFree):
        optimizer.eval()
