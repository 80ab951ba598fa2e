"""Settings of the compression room."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from acclimate.settings import Auto, OpenFraction, Points, Settings
from acclimate.training.settings import LayerDecay, MaxMinutes, Training

PrunerName = Literal["structured"]
ImportanceName = Literal["magnitude", "taylor"]
QuantizerName = Literal["static"]


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
