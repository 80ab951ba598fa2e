"""Settings that every stage that trains shares."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
)

from acclimate.settings import Auto, OpenFraction, Settings

OptimizerName = Literal["adamw", "sgd", "lion", "muon", "schedule_free"]
ScheduleName = Literal["cosine", "linear", "one_cycle", "constant"]
SamName = Literal["none", "sam", "asam"]
AveragingName = Literal["none", "ema", "swa", "soup"]
LayerDecay = Annotated[float, Field(gt=0, le=1)]


def _instead_of_epochs(max_minutes: float | None, info: ValidationInfo) -> float | None:
    epochs = info.data.get("epochs", "auto")
    if max_minutes is not None and epochs != "auto":
        raise ValueError(f"and epochs ({epochs}) are both set: give one of them")
    return max_minutes


MaxMinutes = Annotated[PositiveFloat | None, AfterValidator(_instead_of_epochs)]


class Training(Settings):
    """What every stage that trains can be told."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        "accumulate": "accumulation_steps",
        "minutes": "max_minutes",
        "sharpness": "sam",
        "sharpness_radius": "sam_radius",
    }

    AUTO_STEPS: ClassVar[int] = 400
    """About what a fitted head and a pretrained body need: measured on CIFAR-10's 2,000 images (6
    epochs of 63 steps to 0.83) and on 1,000 digits."""

    epochs: PositiveInt | Auto = "auto"
    """Passes over the training images; auto gives small data more of them."""
    learning_rate: PositiveFloat | Literal["auto", "find"] = "auto"
    """Peak rate of the head, reached after warm-up; find tries rates on the data first."""
    layer_decay: LayerDecay = 0.9
    """Each block towards the input learns at this fraction of the next one's rate."""
    batch_size: PositiveInt | Auto = "auto"
    """Images a step, over all processes."""
    optimizer: OptimizerName = "adamw"
    """Optimizer."""
    weight_decay: NonNegativeFloat | Auto = "auto"
    """Pull towards zero, on matrices only, not on norms and biases; auto goes by the optimizer."""
    schedule: ScheduleName | Auto = "auto"
    """How the rate falls after warm-up; auto is cosine, and constant for schedule_free."""
    warmup: OpenFraction | Auto = "auto"
    """Part of all steps in which the rate rises."""
    batch_norm: Literal["frozen", "train", "reestimate"] = "frozen"
    """frozen keeps pretraining's statistics, reestimate measures them anew in the end."""
    max_gradient_norm: PositiveFloat = 1.0
    """Longer gradients are shortened to this."""
    patience: PositiveInt | Auto = "auto"
    """Stop after so many epochs in which val accuracy and val loss got no better."""
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] | Auto = "auto"
    """auto is mixed precision on a GPU and 32 bits on a CPU."""
    averaging: AveragingName = "none"
    """Weights averaged over steps (ema, swa: the last quarter), or over the best epochs (soup)."""
    max_minutes: MaxMinutes = None
    """Time for the whole stage, in place of epochs; the rate falls to zero as it runs out."""
    accumulation_steps: PositiveInt = 1
    """Parts in which each batch is worked off: less memory, the same gradient."""
    augment_on: Literal["cpu", "device"] | Auto = "auto"
    """Images are altered by the decoding threads, or in batches on the device; auto: on a GPU."""
    sam: SamName = "none"
    """sam or asam look for flat minima, by two passes a step."""
    sam_radius: PositiveFloat | Auto = "auto"
    """How far around the weights they look; auto is 0.05 for sam, 0.5 for asam."""
    class_statistics: bool = True
    """Keep each class's mean features with the model: classes can then be added without images."""
