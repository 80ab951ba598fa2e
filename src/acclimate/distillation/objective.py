"""The training loss of a student: a distillation loss plus cross-entropy on the true labels."""

from collections.abc import Callable

import torch

from acclimate.distillation.hints import HintProjection
from acclimate.distillation.methods import DISTILLATIONS, DistillationInputs
from acclimate.distillation.settings import Distill
from acclimate.distillation.teachers import TeacherOutput
from acclimate.training.engine.step import LossInputs, Objective
from acclimate.training.optim.losses import cross_entropy


def distillation_objective(
    teachers: Callable[[LossInputs], TeacherOutput],
    settings: Distill,
    hint: HintProjection | None = None,
) -> Objective:
    """The training loss of a student.

    Args:
        teachers: Loss inputs to the output of the teachers.
        settings: Method, temperature, weights.
        hint: Projection of the student's features, for methods that compare features.

    Returns:
        (logits, loss inputs) to one loss per image.
    """
    method = DISTILLATIONS[settings.method]
    temperature = method.temperature if settings.temperature == "auto" else settings.temperature
    hard = (
        method.hard_label_weight
        if settings.hard_label_weight == "auto"
        else settings.hard_label_weight
    )

    def objective(logits: torch.Tensor, loss_inputs: LossInputs) -> torch.Tensor:
        output = teachers(loss_inputs)
        logits = logits.float()
        targets = _hard_targets(loss_inputs.targets, output.logits)
        # With consistency training the network sees further views, after these.
        projected = hint.projected[: len(logits)] if hint and hint.projected is not None else None
        inputs = DistillationInputs(logits, output, targets, projected, temperature, settings)
        return (1 - hard) * method.loss(inputs) + hard * _label_loss(logits, loss_inputs.targets)

    return objective


def _hard_targets(targets: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    """Class ids, (b,): the larger share of mixed labels; the teacher's prediction if unlabelled."""
    likeliest = teacher_logits.argmax(1)
    if targets.ndim == 2:
        return torch.where(targets.sum(1) > 0, targets.argmax(1), likeliest)
    return torch.where(targets >= 0, targets, likeliest)


def _label_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, (b,); 0 for unlabelled images."""
    if targets.ndim == 2:
        return cross_entropy(logits, targets, 0.0)
    return cross_entropy(logits, targets.clamp(min=0), 0.0) * (targets >= 0)
