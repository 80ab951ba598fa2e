"""What a student takes from its teacher: each method gives one number an image."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from acclimate.distillation.settings import Distill
from acclimate.distillation.teachers import TeacherOutput
from acclimate.training.optim.losses import soft_targets


@dataclass(frozen=True)
class DistillationInputs:
    """All that a method may compare.

    Attributes:
        logits: The student's, float32, (b, C).
        teacher: Output of the teachers.
        targets: int64, (b,): the true class; the teacher's favourite where there is no label.
        projected: What the student's features say of the teachers', float32, (b, D), or None.
        temperature: Above 0.
        settings: The weights of each method's parts.
    """

    logits: torch.Tensor
    teacher: TeacherOutput
    targets: torch.Tensor
    projected: torch.Tensor | None
    temperature: float
    settings: Distill


@dataclass(frozen=True)
class Distillation:
    """A method.

    Attributes:
        loss: DistillationInputs to one number an image, (b,).
        temperature: Where the setting is auto.
        hard_label_weight: Weight of the true labels where the setting is auto.
        features: Whether it compares features, beside logits.
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

    Soft targets split into two: how sure of the true class (a divergence of two outcomes), and
    how the others share what is left, whose weight no longer shrinks where the teacher is sure.

    Args:
        logits: The student's, float, (b, C).
        teacher: The teacher's, float, (b, C).
        targets: int64, (b,).
        temperature: Above 0.
        alpha: Weight of the true class's part.
        beta: Weight of the others' part.

    Returns:
        float, (b,), times the temperature's square.
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
    """Kullback-Leibler, of log-probabilities (b, n): (b,)."""
    return functional.kl_div(own, theirs, reduction="none", log_target=True).sum(1)


def dist_loss(
    logits: torch.Tensor, teacher: torch.Tensor, *, temperature: float, beta: float, gamma: float
) -> torch.Tensor:
    """DIST (Huang et al. 2022, arXiv 2205.10536): correlations in place of equal probabilities.

    Between classes: of each image's probabilities with the teacher's. Within a class: of the
    class's probabilities over the batch with the teacher's. The latter is one number a batch; it
    is shared out evenly, each image carrying the mean over classes, so that the mean over images
    is the published loss. Of several processes each correlates the images it holds.

    Args:
        logits: The student's, float, (b, C).
        teacher: The teacher's, float, (b, C).
        temperature: Above 0.
        beta: Weight between classes.
        gamma: Weight within classes.

    Returns:
        float, (b,), times the temperature's square.
    """
    own, theirs = ((side / temperature).softmax(1) for side in (logits, teacher))
    between, within = (_pearson_distance(own, theirs, dim) for dim in (1, 0))
    return (beta * between + gamma * within.mean()) * temperature**2


def _pearson_distance(a: torch.Tensor, b: torch.Tensor, dim: int) -> torch.Tensor:
    """1 less Pearson's correlation along a dimension; 1 where one of them does not vary."""
    a, b = a - a.mean(dim, keepdim=True), b - b.mean(dim, keepdim=True)
    return 1 - functional.cosine_similarity(a, b, dim=dim)


def hint_distance(projected: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """How far hints are distance (Romero et al. 2014, arXiv 1412.6550): squared distance.

    Relative to the squared length of the teacher's features, so that a weight means the same for
    networks whose features differ in size.

    Args:
        projected: The student's projected features, float, (b, D).
        features: The teacher's, float, (b, D).

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


# Published: DKD and DIST add themselves to a cross-entropy of weight 1, DIST with weight 2.
DISTILLATIONS: dict[str, Distillation] = {
    "soft": Distillation(_soft, temperature=2.0, hard_label_weight=0.3),
    "dkd": Distillation(_dkd, temperature=4.0, hard_label_weight=0.5),
    "dist": Distillation(_dist, temperature=1.0, hard_label_weight=1 / 3),
    "hints": Distillation(_hints, temperature=2.0, hard_label_weight=0.3, features=True),
}
"""Methods, each with its temperature and its weight of the true labels."""
