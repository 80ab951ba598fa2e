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
    """Training loss; the generalized and symmetric losses tolerate label noise."""
    label_smoothing: OpenFraction = 0.1
    """Probability that label smoothing spreads over all classes, against over-confidence."""
    wise_ft: Literal["auto", "off"] | Fraction = "off"
    """Weights between the fitted head (0) and the trained network (1); auto tunes it on val."""
    balance: Literal["none", "sampling", "logit_adjustment"] = "none"
    """For rare classes: equally many images per class and epoch, or logit adjustment."""
    label_weights: bool = False
    """Give labels that `inspect` suspects a lower weight in the loss."""
    trainable: TrainableName | Auto = "all"
    """Layers to train; surgical goes by gradients, lora adds adapters, auto fits the time."""
    trainable_blocks: PositiveInt = 3
    """Number of blocks that last and surgical train besides the head."""
    lora_rank: PositiveInt = 8
    """Rank of the LoRA adapters."""
    lora_alpha: PositiveFloat = 16.0
    """Scale of the LoRA adapters, divided by their rank."""
    head: HeadName | Auto = "auto"
    """Kind of head; auto keeps the head of a model with the same classes, else linear."""
    dropout: OpenFraction = 0.0
    """Dropout rate of the features before the last layer."""
    drop_path: OpenFraction = 0.0
    """Stochastic depth: drop probability of the last residual branch, lower for earlier ones."""
    prefix_views: NonNegativeInt | Auto = "auto"
    """Augmented views per image whose output of the frozen layers is cached; 0 turns it off."""
    start_size: ImageSize | None = None
    """Progressive resizing: image size of the first epoch in px, growing to the model's."""
    keep_classes: bool = False
    """Keep the classes of the model and add those of the data."""
