"""The settings that all training stages share."""

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
    """The settings that all training stages share."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        "accumulate": "accumulation_steps",
        "minutes": "max_minutes",
        "sharpness": "sam",
        "sharpness_radius": "sam_radius",
    }

    AUTO_STEPS: ClassVar[int] = 400
    """What a fitted head on a pretrained backbone needs: measured on 2,000 images of CIFAR-10 (6
    epochs of 63 steps to 0.83) and on 1,000 digits."""

    epochs: PositiveInt | Auto = "auto"
    """Passes over the training images; auto trains longer on small data."""
    learning_rate: PositiveFloat | Literal["auto", "find"] = "auto"
    """Peak learning rate of the head, reached after warm-up; find runs a range test first."""
    layer_decay: LayerDecay = 0.9
    """Learning rate of each block as a fraction of the next block's, from the head downwards."""
    batch_size: PositiveInt | Auto = "auto"
    """Batch size over all processes."""
    optimizer: OptimizerName = "adamw"
    """Optimizer."""
    weight_decay: NonNegativeFloat | Auto = "auto"
    """Weight decay, on weight matrices only, not on norms and biases; auto is the optimizer's."""
    schedule: ScheduleName | Auto = "auto"
    """Learning-rate schedule after warm-up; auto is cosine, and constant for schedule_free."""
    warmup: OpenFraction | Auto = "auto"
    """Fraction of the steps in which the learning rate rises; auto is 0.1, or 0.3 for one_cycle."""
    batch_norm: Literal["frozen", "train", "reestimate"] = "frozen"
    """frozen keeps the pretrained statistics; reestimate computes them again after training."""
    max_gradient_norm: PositiveFloat = 1.0
    """Gradients are clipped to this norm."""
    patience: PositiveInt | Auto = "auto"
    """Early stopping: epochs without a better accuracy or loss on val before training stops."""
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] | Auto = "auto"
    """Floating-point precision; auto is mixed precision on a GPU and float32 on a CPU."""
    averaging: AveragingName = "none"
    """Weight averaging: over all steps (ema), the last quarter (swa) or the best epochs (soup)."""
    max_minutes: MaxMinutes = None
    """Time limit of the stage in place of epochs; the learning rate reaches zero as it ends."""
    accumulation_steps: PositiveInt = 1
    """Gradient accumulation steps per batch: less memory, the same gradient."""
    augment_on: Literal["cpu", "device"] | Auto = "auto"
    """Where images are augmented: in the loading threads (cpu), or in batches on the device."""
    sam: SamName = "none"
    """Sharpness-aware minimization (SAM or ASAM): flatter minima, at two passes per step."""
    sam_radius: PositiveFloat | Auto = "auto"
    """Radius of the neighborhood in SAM; auto is 0.05 for sam and 0.5 for asam."""
    class_statistics: bool = True
    """Store the mean features of each class in the model, so that classes can be added later."""
