"""Settings of fine-tuning."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from acclimate.models.settings import ImageSize
from acclimate.settings import Auto, Fraction, OpenFraction
from acclimate.training.settings import Training

LossName = Literal["cross_entropy", "focal", "generalized_cross_entropy", "symmetric_cross_entropy"]
TrainableName = Literal["all", "head", "last", "surgical", "lora"]
HeadName = Literal["linear", "cosine", "mlp"]


class FineTune(Training):
    """How a classifier learns the user's classes."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        **Training.RENAMED,
        "trained": "trainable",
        "trained_blocks": "trainable_blocks",
    }

    loss: LossName = "cross_entropy"
    """What is made small; the generalized and the symmetric one bear wrong labels."""
    label_smoothing: OpenFraction = 0.1
    """Probability spread over the other classes, against over-confidence."""
    wise_ft: Literal["auto", "off"] | Fraction = "off"
    """Part of the way from the fitted head (0) to the trained network (1); auto asks val."""
    balance: Literal["none", "sampling", "logit_adjustment"] = "none"
    """For rare classes: as many images of each class an epoch, or logits moved by their share."""
    label_weights: bool = False
    """Labels that `inspect` suspects count less."""
    trainable: TrainableName | Auto = "all"
    """Which weights learn; surgical asks the gradients, lora adds adapters, auto asks the time."""
    trainable_blocks: PositiveInt = 3
    """How many blocks beside the head, for last and surgical."""
    lora_rank: PositiveInt = 8
    """Rank of the adapters."""
    lora_alpha: PositiveFloat = 16.0
    """Strength of the adapters, over their rank."""
    head: HeadName | Auto = "auto"
    """auto keeps the head of a model that knows the classes, and is linear elsewhere."""
    dropout: OpenFraction = 0.0
    """Part of the features that the last layer does not see in training."""
    drop_path: OpenFraction = 0.0
    """Probability that the last residual branch is left out in training, earlier ones less."""
    prefix_views: NonNegativeInt | Auto = "auto"
    """Views of each image for which a frozen first part is run once and kept; 0 keeps none."""
    start_size: ImageSize | None = None
    """Side in px of the first epoch's training images, which grow to the model's own."""
    keep_classes: bool = False
    """Add the data's classes to those that the model knows, and keep those."""
