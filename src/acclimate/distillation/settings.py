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
    """Fewer than fine-tuning, because the student starts from weights that fit already."""

    student: str = "auto"
    """Name or folder of a model; auto is the smallest packaged one, or the teacher if smaller."""
    method: DistillationName = "soft"
    """Loss: soft targets, decoupled (dkd), correlations (dist), or soft and features (hints)."""
    temperature: PositiveFloat | Auto = "auto"
    """Softmax temperature for teacher and student; auto is the default of the method."""
    hard_label_weight: Fraction | Auto = "auto"
    """Weight of the loss on the true labels; auto is the default of the method."""
    teachers: tuple[str, ...] = ()
    """Additional teachers: names, model folders, `.onnx` files."""
    unlabelled: bool = False
    """Also train on images without a label, with the predictions of the teacher."""
    dkd_alpha: NonNegativeFloat = 1.0
    """Weight of the target-class term of DKD."""
    dkd_beta: NonNegativeFloat = 8.0
    """Weight of the non-target term of DKD."""
    dist_beta: NonNegativeFloat = 1.0
    """Weight of the inter-class correlation of DIST."""
    dist_gamma: NonNegativeFloat = 1.0
    """Weight of the intra-class correlation of DIST, over the batch."""
    hint_weight: NonNegativeFloat = 1.0
    """Weight of the feature loss beside the soft targets, for hints."""
