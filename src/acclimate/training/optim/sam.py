"""Flat minima: the gradient is taken where the loss is worst around the weights."""

import math
from collections.abc import Iterable, Sequence

import torch

_ETA = 0.01
"""Keeps weights that are zero from standing still in ASAM; the paper's."""


@torch.no_grad()
def climb(
    parameters: Iterable[torch.Tensor], radius: float, *, adaptive: bool
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Moves weights up their gradient, to the edge of a ball around them.

    SAM (Foret et al. 2020, arXiv 2010.01412); ASAM (Kwon et al. 2021, arXiv 2102.11600), whose
    ball is measured in parts of each weight. Where the gradient is zero or not finite nothing
    moves. The gradient's scale does not matter.

    Args:
        parameters: With their gradients; those without one are left out. Changed in place.
        radius: Of the ball.
        adaptive: ASAM in place of SAM.

    Returns:
        Each weight, and a copy of what it was: for `climb_down`.
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
def climb_down(before: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Puts weights back to what they were, to the bit."""
    for weight, was in before:
        weight.copy_(was)
