"""The loss of a student: the teacher's output and the true labels."""

from collections.abc import Callable

import torch

from acclimate.distillation.hints import Hint
from acclimate.distillation.methods import DISTILLATIONS, Lesson
from acclimate.distillation.settings import Distill
from acclimate.distillation.teachers import TeacherOutput
from acclimate.training.engine.step import LossInputs, Objective
from acclimate.training.optim.losses import cross_entropy


def teaching(
    ask: Callable[[LossInputs], TeacherOutput], settings: Distill, hint: Hint | None = None
) -> Objective:
    """The objective of a student: what teachers say, and the true labels.

    Args:
        ask: The teachers.
        settings: Method, temperature, weights.
        hint: The student's guess at the teachers' features, where the method compares them.

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
        output = ask(loss_inputs)
        logits = logits.float()
        truth = _favourites(loss_inputs.targets, output.logits)
        # Where views are compared the network saw more of them, after these.
        guess = hint.guess[: len(logits)] if hint and hint.guess is not None else None
        lesson = Lesson(logits, output, truth, guess, temperature, settings)
        return (1 - hard) * method.loss(lesson) + hard * _true_labels(logits, loss_inputs.targets)

    return objective


def _favourites(targets: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Class ids, (b,): of mixed images the larger part's, without a label the teacher's."""
    likeliest = teacher.argmax(1)
    if targets.ndim == 2:
        return torch.where(targets.sum(1) > 0, targets.argmax(1), likeliest)
    return torch.where(targets >= 0, targets, likeliest)


def _true_labels(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, (b,); 0 where there is no label."""
    if targets.ndim == 2:
        return cross_entropy(logits, targets, 0.0)
    return cross_entropy(logits, targets.clamp(min=0), 0.0) * (targets >= 0)
