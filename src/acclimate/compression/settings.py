"""Settings of the compression room."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from acclimate.settings import Auto, OpenFraction, Points, Settings
from acclimate.training.settings import LayerDecay, MaxMinutes, Training

PrunerName = Literal["structured"]
ImportanceName = Literal["magnitude", "taylor"]
QuantizerName = Literal["static"]
Target = Literal["latency", "size", "macs"]


class Prune(Training):
    """How channels are pruned, and how the smaller network is trained again."""

    AUTO_STEPS: ClassVar[int] = 200
    """Fewer than fine-tuning, because the remaining weights fit already."""

    layer_decay: LayerDecay = 1.0
    """Every block lost channels, so every block is trained at the full learning rate."""
    method: PrunerName = "structured"
    """structured removes whole channels: smaller and faster without special kernels."""
    ratio: Annotated[float, Field(gt=0, le=0.9)] = 0.2
    """Fraction of the channels to remove, chosen over the whole network."""
    importance: ImportanceName = "taylor"
    """Importance of a channel: the size of its weights, or a first-order estimate of the loss."""
    round_to: PositiveInt = 8
    """Channel counts stay a multiple of this, because odd widths are slow."""
    max_accuracy_drop: Points = 1.0
    """Largest accepted drop of val accuracy in percentage points; else the original is kept."""


class Quantize(Settings):
    """How weights and activations are quantized to int8, with optional recovery training."""

    RENAMED: ClassVar[Mapping[str, str]] = {"minutes": "max_minutes"}

    method: QuantizerName = "static"
    """static measures the ranges of activations once, on calibration images."""
    calibration_images: PositiveInt = 256
    """Number of training images for calibration."""
    max_accuracy_drop: Points = 1.0
    """Largest accepted drop of val accuracy in percentage points; else the original is kept."""
    recover: bool = True
    """Quantization-aware recovery, distilled from the float model, if the drop is too large."""
    epochs: PositiveInt | Auto = "auto"
    """Passes over the training images in the recovery; auto is about 200 steps."""
    learning_rate: PositiveFloat = 1e-4
    """Peak learning rate of the recovery; low, because only rounding errors remain."""
    max_minutes: MaxMinutes = None
    """Time limit of the recovery in place of epochs."""
    keep_head_float: bool = False
    """Keep the last layer in float32."""
    percentile: OpenFraction = 0.0
    """Fraction of the extreme values of each activation to clip; 0 keeps the full range."""


class Compress(Settings):
    """How a smaller and faster model is searched inside an accuracy budget."""

    max_accuracy_drop: Points = 0.5
    """Accuracy budget: the largest drop in percentage points, shown on val."""
    max_latency_ms: PositiveFloat | None = None
    """Largest median latency of one image on this machine, in ms."""
    max_size_mb: PositiveFloat | None = None
    """Largest size of the model file in MB."""
    target: Target = "latency"
    """What is made as small as the budget allows: latency, size or macs (multiply-adds)."""
    allow: tuple[Literal["quantize", "prune", "distill"], ...] = ("quantize", "prune", "distill")
    """What may be tried: quantize, prune, distill (a smaller network as student)."""
    max_minutes: MaxMinutes = None
    """Time limit of the search; what was tried by then is compared."""
    portable: bool | Auto = "auto"
    """Only int8 that any processor computes alike; auto is true if this one lacks VNNI."""
    accept_estimate: bool = False
    """Accept an estimated drop within the budget if val has too few images to show it."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence of the bound of the accuracy drop, over all models that are compared."""
    calibration_images: PositiveInt = 256
    """Number of training images for calibration."""
    ranking_images: PositiveInt = 256
    """Number of other training images on which int8 candidates are ranked."""
    max_comparisons: PositiveInt = 8
    """Number of candidates that are compared on val; each more needs more images."""
    prune_ratios: tuple[Annotated[float, Field(gt=0, le=0.9)], ...] = (0.2, 0.4)
    """Fractions of the channels to remove, each a candidate, tried in this order."""
    students: tuple[str, ...] | Auto = "auto"
    """Smaller networks to distil into; auto are the packaged ones with fewer multiply-adds."""
    epochs: PositiveInt | Auto = "auto"
    """Passes over the training images of each training; auto is that of the stage."""
    pick: str | None = None
    """Name of an earlier candidate to take in place of the best one, without a search."""

    @field_validator("allow", "prune_ratios", "students", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:  # noqa: ANN401 - not validated yet
        """From the command line: "prune,quantize"."""
        if isinstance(value, str) and value != "auto":
            return [part.strip() for part in value.split(",") if part.strip()]
        return value
