"""Sharpness-aware minimization: gradients at the worst weights in a neighborhood."""

import math
from collections.abc import Iterable, Sequence

import torch

_ETA = 0.01
"""Lets ASAM move weights that are zero; the value of the paper."""


@torch.no_grad()
def perturb(
    parameters: Iterable[torch.Tensor], radius: float, *, adaptive: bool
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Moves weights along their gradient to the boundary of a ball around them.

    SAM (Foret et al. 2020, arXiv 2010.01412); ASAM (Kwon et al. 2021, arXiv 2102.11600), whose
    ball is relative to the size of each weight. If the gradient is zero or not finite, nothing
    moves. The scale of the gradient does not matter.

    Args:
        parameters: Parameters, changed in place; those without a gradient are left out.
        radius: Radius of the ball.
        adaptive: Whether to use ASAM instead of SAM.

    Returns:
        Each parameter with a copy of its value, for `restore`.
    """
    pairs = [(p, p.grad) for p in parameters if p.grad is not None]
    sizes = [p.abs() + _ETA if adaptive else torch.ones_like(p) for p, _ in pairs]
    slopes = [gradient * size for (_, gradient), size in zip(pairs, sizes, strict=True)]
    length = math.sqrt(sum(float(slope.norm()) ** 2 for slope in slopes))
    before = [(p, p.clone()) for p, _ in pairs]
    if math.isfinite(length) and length > 0:
        for (p, _), slope, size in zip(pairs, slopes, sizes, strict=True):
            p.add_(slope * size, alpha=radius / length)
    return before


@torch.no_grad()
def restore(before: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Restores the values from before `perturb`, bit by bit."""
    for weight, was in before:
        weight.copy_(was)
