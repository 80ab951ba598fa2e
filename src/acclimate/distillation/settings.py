"""Settings of distillation."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat

from acclimate.settings import Auto, Fraction
from acclimate.training.settings import Training

DistillationName = Literal["soft", "dkd", "dist", "hints"]


class Distill(Training):
    """How a student learns from a teacher."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        **Training.RENAMED,
        "hard_labels": "hard_label_weight",
    }

    AUTO_STEPS: ClassVar[int] = 200
    """It starts from weights that fit already."""

    student: str = "auto"
    """Model's name or folder; auto: smallest packaged one, or a copy of a teacher that is it."""
    method: DistillationName = "soft"
    """Learnt: soft probabilities, those decoupled (dkd), correlations (dist), or features too."""
    temperature: PositiveFloat | Auto = "auto"
    """Softens both sides, so that the teacher's second thoughts are heard; auto is the method's."""
    hard_label_weight: Fraction | Auto = "auto"
    """Weight of the true labels beside the teacher's; auto is the method's."""
    teachers: tuple[str, ...] = ()
    """More teachers beside the given one: names, model folders, `.onnx` files."""
    unlabelled: bool = False
    """Learn from images without a label too, by what the teacher says of them."""
    dkd_alpha: NonNegativeFloat = 1.0
    """Weight of the true class's part of DKD."""
    dkd_beta: NonNegativeFloat = 8.0
    """Weight of the other classes' part of DKD."""
    dist_beta: NonNegativeFloat = 1.0
    """Weight of DIST's correlation between classes."""
    dist_gamma: NonNegativeFloat = 1.0
    """Weight of DIST's correlation within classes, over the batch."""
    hint_weight: NonNegativeFloat = 1.0
    """Weight of the features beside the probabilities, for hints."""
