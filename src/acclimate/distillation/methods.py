"""Distillation losses: each method gives one loss per image."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from acclimate.distillation.settings import Distill
from acclimate.distillation.teachers import TeacherOutput
from acclimate.training.optim.losses import soft_targets


@dataclass(frozen=True)
class DistillationInputs:
    """What a distillation loss may use.

    Attributes:
        logits: Logits of the student, float32, (b, C).
        teacher: Output of the teachers.
        targets: int64, (b,): the true class, or the teacher's prediction for unlabelled images.
        projected: The student's features, projected to the teachers' width, float32, (b, D), or
            None.
        temperature: Softmax temperature, above 0.
        settings: The weights of each method's terms.
    """

    logits: torch.Tensor
    teacher: TeacherOutput
    targets: torch.Tensor
    projected: torch.Tensor | None
    temperature: float
    settings: Distill


@dataclass(frozen=True)
class Distillation:
    """A distillation method.

    Attributes:
        loss: DistillationInputs to one loss per image, (b,).
        temperature: Softmax temperature if the setting is auto.
        hard_label_weight: Weight of the true labels if the setting is auto.
        features: Whether the method compares features besides logits.
    """

    loss: Callable[[DistillationInputs], torch.Tensor]
    temperature: float
    hard_label_weight: float
    features: bool = False


def dkd_loss(
    logits: torch.Tensor,
    teacher: torch.Tensor,
    targets: torch.Tensor,
    *,
    temperature: float,
    alpha: float,
    beta: float,
) -> torch.Tensor:
    """Decoupled distillation (Zhao et al. 2022, arXiv 2203.08679, equation 7).

    Splits the loss on soft targets into two terms: a divergence between true class and other
    classes, and a divergence among the other classes. The weight of the second term no longer
    shrinks when the teacher is confident.

    Args:
        logits: Logits of the student, float, (b, C).
        teacher: Logits of the teacher, float, (b, C).
        targets: int64, (b,).
        temperature: Softmax temperature, above 0.
        alpha: Weight of the term of the true class.
        beta: Weight of the term of the other classes.

    Returns:
        float, (b,), times the square of the temperature.
    """
    others = ~functional.one_hot(targets, logits.shape[1]).bool()
    at, left = targets[:, None], (len(logits), logits.shape[1] - 1)
    sides = []
    for side in (logits, teacher):
        logs = functional.log_softmax(side / temperature, dim=1)
        rest = logs[others].view(left)
        sure = torch.cat([logs.gather(1, at), rest.logsumexp(1, keepdim=True)], 1)
        sides.append((sure, functional.log_softmax(rest, dim=1)))
    (own_sure, own_rest), (their_sure, their_rest) = sides
    target = _divergence(own_sure, their_sure)
    return (alpha * target + beta * _divergence(own_rest, their_rest)) * temperature**2


def _divergence(own: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of log-probabilities (b, n): (b,)."""
    return functional.kl_div(own, theirs, reduction="none", log_target=True).sum(1)


def dist_loss(
    logits: torch.Tensor, teacher: torch.Tensor, *, temperature: float, beta: float, gamma: float
) -> torch.Tensor:
    """DIST (Huang et al. 2022, arXiv 2205.10536): Pearson correlations with the teacher.

    The inter-class term correlates the probabilities of each image with the teacher's. The
    intra-class term correlates the probabilities of each class over the batch with the teacher's.
    It is one number per batch, added to every image as the mean over classes, so that the mean
    over images is the published loss. With several processes, each one correlates its own images.

    Args:
        logits: Logits of the student, float, (b, C).
        teacher: Logits of the teacher, float, (b, C).
        temperature: Softmax temperature, above 0.
        beta: Weight of the inter-class term.
        gamma: Weight of the intra-class term.

    Returns:
        float, (b,), times the square of the temperature.
    """
    own, theirs = ((side / temperature).softmax(1) for side in (logits, teacher))
    between, within = (_pearson_distance(own, theirs, dim) for dim in (1, 0))
    return (beta * between + gamma * within.mean()) * temperature**2


def _pearson_distance(a: torch.Tensor, b: torch.Tensor, dim: int) -> torch.Tensor:
    """1 minus the Pearson correlation along a dimension; 1 if one side is constant."""
    a, b = a - a.mean(dim, keepdim=True), b - b.mean(dim, keepdim=True)
    return 1 - functional.cosine_similarity(a, b, dim=dim)


def hint_distance(projected: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Squared distance of projected features from the teacher's (Romero et al. 2014, 1412.6550).

    It is relative to the squared length of the teacher's features, so that `hint_weight` means the
    same for all networks.

    Args:
        projected: Projected features of the student, float, (b, D).
        features: Features of the teacher, float, (b, D).

    Returns:
        float, (b,).
    """
    length = features.square().sum(1).clamp(min=1e-6)
    return (projected - features).square().sum(1) / length


def _soft(inputs: DistillationInputs) -> torch.Tensor:
    return soft_targets(inputs.logits, inputs.teacher.logits, inputs.temperature)


def _dkd(inputs: DistillationInputs) -> torch.Tensor:
    return dkd_loss(
        inputs.logits,
        inputs.teacher.logits,
        inputs.targets,
        temperature=inputs.temperature,
        alpha=inputs.settings.dkd_alpha,
        beta=inputs.settings.dkd_beta,
    )


def _dist(inputs: DistillationInputs) -> torch.Tensor:
    return dist_loss(
        inputs.logits,
        inputs.teacher.logits,
        temperature=inputs.temperature,
        beta=inputs.settings.dist_beta,
        gamma=inputs.settings.dist_gamma,
    )


def _hints(inputs: DistillationInputs) -> torch.Tensor:
    assert inputs.projected is not None
    assert inputs.teacher.features is not None
    distance = hint_distance(inputs.projected, inputs.teacher.features)
    return _soft(inputs) + inputs.settings.hint_weight * distance


# In the papers DKD (weight 1) and DIST (weight 2) are added to a cross-entropy of weight 1.
DISTILLATIONS: dict[str, Distillation] = {
    "soft": Distillation(_soft, temperature=2.0, hard_label_weight=0.3),
    "dkd": Distillation(_dkd, temperature=4.0, hard_label_weight=0.5),
    "dist": Distillation(_dist, temperature=1.0, hard_label_weight=1 / 3),
    "hints": Distillation(_hints, temperature=2.0, hard_label_weight=0.3, features=True),
}
"""Methods, with the default temperature and weight of the true labels of each."""
