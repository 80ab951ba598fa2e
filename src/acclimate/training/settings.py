"""Settings of the training room."""

from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
)

from acclimate.models.settings import ImageSize
from acclimate.settings import Auto, Fraction, OpenFraction, Settings

OptimizerName = Literal["adamw", "sgd", "lion", "muon", "schedule_free"]
ScheduleName = Literal["cosine", "linear", "one_cycle", "constant"]
SharpnessName = Literal["none", "sam", "asam"]
LossName = Literal["cross_entropy", "focal", "generalized_cross_entropy", "symmetric_cross_entropy"]
AveragingName = Literal["none", "ema", "swa", "soup"]
DistillationName = Literal["soft", "dkd", "dist", "hints"]
TrainedName = Literal["all", "head", "last", "surgical", "lora"]
HeadName = Literal["linear", "cosine", "mlp"]
LayerDecay = Annotated[float, Field(gt=0, le=1)]


def _ascending(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError("must have its lower end first")
    return ends


def _instead_of_epochs(minutes: float | None, info: ValidationInfo) -> float | None:
    epochs = info.data.get("epochs", "auto")
    if minutes is not None and epochs != "auto":
        raise ValueError(f"and epochs ({epochs}) both say when to end: give one of them")
    return minutes


Minutes = Annotated[PositiveFloat | None, AfterValidator(_instead_of_epochs)]
_Rates = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_ascending)]
_Amounts = Annotated[tuple[NonNegativeFloat, NonNegativeFloat], AfterValidator(_ascending)]
_LayerDecays = Annotated[tuple[LayerDecay, LayerDecay], AfterValidator(_ascending)]
_Parts = Annotated[tuple[OpenFraction, OpenFraction], AfterValidator(_ascending)]


class Training(Settings):
    """What every stage that trains can be told."""

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
    """Update rule."""
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
    minutes: Minutes = None
    """Time for the whole stage, in place of epochs; the rate falls to zero as it runs out."""
    accumulate: PositiveInt = 1
    """Parts in which each batch is worked off: less memory, the same gradient."""
    augment_on: Literal["cpu", "device"] | Auto = "auto"
    """Images are altered by the decoding threads, or in batches on the device; auto: on a GPU."""
    sharpness: SharpnessName = "none"
    """sam or asam look for flat minima, by two passes a step."""
    sharpness_radius: PositiveFloat | Auto = "auto"
    """How far around the weights they look; auto is 0.05 for sam, 0.5 for asam."""
    class_statistics: bool = True
    """Keep each class's mean features with the model: classes can then be added without images."""


class FineTune(Training):
    """How a classifier learns the user's classes."""

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
    trained: TrainedName | Auto = "all"
    """Which weights learn; surgical asks the gradients, lora adds adapters, auto asks the time."""
    trained_blocks: PositiveInt = 3
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


class Distill(Training):
    """How a student learns from a teacher."""

    AUTO_STEPS: ClassVar[int] = 200
    """It starts from weights that fit already."""

    student: str = "auto"
    """Model's name or folder; auto: smallest packaged one, or a copy of a teacher that is it."""
    method: DistillationName = "soft"
    """Learnt: soft probabilities, those decoupled (dkd), correlations (dist), or features too."""
    temperature: PositiveFloat | Auto = "auto"
    """Softens both sides, so that the teacher's second thoughts are heard; auto is the method's."""
    hard_labels: Fraction | Auto = "auto"
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


class Search(Settings):
    """What `fine-tune --trials` tries; settings that are given are not tried, null and [] neither.

    Both ends of a range belong to it.
    """

    learning_rate: _Rates | Auto | None = "auto"
    """Lowest and highest; auto: from a tenth of what fine-tuning takes to ten times that."""
    weight_decay: _Amounts | Auto | None = "auto"
    """Lowest and highest; auto: from a tenth of what fine-tuning takes to ten times that."""
    layer_decay: _LayerDecays | None = (0.6, 1.0)
    """Lowest and highest."""
    label_smoothing: _Parts | None = (0.0, 0.3)
    """Lowest and highest; tried on kept features first."""
    dropout: _Parts | None = (0.0, 0.5)
    """Lowest and highest; tried on kept features first."""
    head: tuple[HeadName, ...] = ("linear", "cosine", "mlp")
    """Those that kept features do not rule out are trained with the whole network."""
    trained: tuple[TrainedName, ...] = ("all", "last", "lora")
    """Which weights learn."""
    mixup: tuple[NonNegativeFloat, ...] = (0.0, 0.2)
    """Of the section augment."""
