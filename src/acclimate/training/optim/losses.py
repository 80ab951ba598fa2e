"""Training losses; each returns one value per image, so that images can be weighted."""

import math
from collections.abc import Callable

import torch
from torch.nn import functional

Loss = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]

_FOCUS = 2.0
_TRUNCATION = 0.7
_FORWARD, _REVERSE, _LOG_ZERO = 0.1, 1.0, -4.0
"""The values that the papers recommend for CIFAR-10 and similar data."""


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


def focal(logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """Focal loss with gamma 2 (Lin et al. 2017, arXiv 1708.02002): easy images weigh less.

    Without class weights; see the setting `balance`.

    Args:
        logits: float, (B, C).
        targets: int64 class ids (B,), or probabilities (B, C).
        label_smoothing: In [0, 1).

    Returns:
        float, (B,).
    """
    logs = functional.log_softmax(logits, dim=1)
    target = _smoothed_targets(logits, targets, label_smoothing)
    return -(target * (1 - logs.exp()) ** _FOCUS * logs).sum(1)


def generalized_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float
) -> torch.Tensor:
    """(1 - p^q) / q with q = 0.7 (Zhang and Sabuncu 2018, arXiv 1805.07836).

    Between cross-entropy (q near 0) and the mean absolute error (q = 1), which is robust to label
    noise. Without the truncation of the paper.

    Args:
        logits: float, (B, C).
        targets: int64 class ids (B,), or probabilities (B, C).
        label_smoothing: In [0, 1).

    Returns:
        float, (B,), in [0, 1 / q].
    """
    logs = functional.log_softmax(logits, dim=1)
    target = _smoothed_targets(logits, targets, label_smoothing)
    # p^q through its logarithm, since the power itself has no gradient at 0.
    return (target * (1 - (_TRUNCATION * logs).exp())).sum(1) / _TRUNCATION


def symmetric_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float
) -> torch.Tensor:
    """0.1 times cross-entropy plus reverse cross-entropy (Wang et al. 2019, arXiv 1908.06112).

    The reverse term swaps label and prediction. It is bounded, as it takes -4 for the logarithm of
    0.

    Args:
        logits: float, (B, C).
        targets: int64 class ids (B,), or probabilities (B, C).
        label_smoothing: In [0, 1), for the forward term.

    Returns:
        float, (B,).
    """
    probabilities = functional.softmax(logits, dim=1)
    target = _smoothed_targets(logits, targets, 0.0)
    reverse = -(probabilities * target.clamp_min(math.exp(_LOG_ZERO)).log()).sum(1)
    forward = cross_entropy(logits, targets, label_smoothing)
    return _FORWARD * forward + _REVERSE * reverse


def _smoothed_targets(
    logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float
) -> torch.Tensor:
    """Class ids or probabilities to smoothed probabilities, (B, C)."""
    classes = logits.shape[1]
    if targets.ndim == 1:
        targets = functional.one_hot(targets, classes)
    return targets.to(logits.dtype) * (1 - label_smoothing) + label_smoothing / classes


def soft_targets(logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Kullback-Leibler divergence from the softened teacher (Hinton et al. 2015, arXiv 1503.02531).

    Multiplied by the squared temperature, so that the size of the gradients does not depend on it.

    Args:
        logits: Logits of the student, float, (B, C).
        teacher: Logits of the teacher, float, (B, C).
        temperature: Above 0.

    Returns:
        float, (B,).
    """
    student = functional.log_softmax(logits / temperature, dim=1)
    target = functional.log_softmax(teacher / temperature, dim=1)
    apart = functional.kl_div(student, target, reduction="none", log_target=True).sum(1)
    return apart * temperature**2


def view_divergence(views: torch.Tensor) -> torch.Tensor:
    """Jensen-Shannon divergence between the predictions for views of an image.

    AugMix adds 12 times this to the loss of the plain view (Hendrycks et al. 2019, arXiv
    1912.02781).

    Args:
        views: Logits, float, (V, B, C).

    Returns:
        float, (B,), in [0, log V]: 0 if all views have equal predictions.
    """
    logs = functional.log_softmax(views, dim=2)
    # The logarithm of the mean, since tiny probabilities would underflow and have no gradient.
    together = logs.logsumexp(0) - math.log(len(views))
    return (logs.exp() * (logs - together)).sum(2).mean(0).clamp(min=0)


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "generalized_cross_entropy": generalized_cross_entropy,
    "symmetric_cross_entropy": symmetric_cross_entropy,
}
"""(logits (B, C), targets (B,) or (B, C), label smoothing) to one loss per image (B,)."""
