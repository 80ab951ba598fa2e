"""What is made small: each loss gives one number an image, so that batches can be weighed."""

from collections.abc import Callable

import torch
from torch.nn import functional

Loss = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float
) -> torch.Tensor:
    """Cross-entropy with label smoothing (Szegedy et al. 2015, arXiv 1512.00567).

    Args:
        logits: float, (B, C).
        targets: int64 class ids (B,), or probabilities (B, C).
        label_smoothing: In [0, 1).

    Returns:
        float, (B,).
    """
    return functional.cross_entropy(
        logits, targets, reduction="none", label_smoothing=label_smoothing
    )


def soft_targets(logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Kullback-Leibler divergence from the softened teacher (Hinton et al. 2015, arXiv 1503.02531).

    Scaled by the temperature's square, so that gradients keep their size when it changes.

    Args:
        logits: The student's, float, (B, C).
        teacher: The teacher's, float, (B, C).
        temperature: Above 0.

    Returns:
        float, (B,).
    """
    student = functional.log_softmax(logits / temperature, dim=1)
    wanted = functional.log_softmax(teacher / temperature, dim=1)
    apart = functional.kl_div(student, wanted, reduction="none", log_target=True).sum(1)
    return apart * temperature**2


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy}
"""(logits (B, C), targets (B,) or (B, C), label smoothing) to one loss an image (B,)."""
