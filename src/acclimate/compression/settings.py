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
    """How whole channels are taken out, and the rest recovers."""

    AUTO_STEPS: ClassVar[int] = 200
    """To recover; the weights that stay fit already."""

    layer_decay: LayerDecay = 1.0
    """Every block lost channels, so every block recovers at the full rate."""
    method: PrunerName = "structured"
    """Whole channels: smaller and faster anywhere, with no special kernels."""
    ratio: Annotated[float, Field(gt=0, le=0.9)] = 0.2
    """Part of the channels to take out, chosen over the whole network."""
    importance: ImportanceName = "taylor"
    """How a channel is judged: by its weights, or by what the loss would lose without it."""
    round_to: PositiveInt = 8
    """Channels stay a multiple of this: odd widths are slow."""
    max_accuracy_drop: Points = 1.0
    """Points of val accuracy that may be lost; a pruned model that loses more is not kept."""


class Quantize(Settings):
    """How weights and activations become 8-bit integers, and what that lost is learnt again."""

    RENAMED: ClassVar[Mapping[str, str]] = {"minutes": "max_minutes"}

    method: QuantizerName = "static"
    """Ranges of activations are measured on a calibration set, once."""
    calibration_images: PositiveInt = 256
    """Training images that ranges are measured on."""
    max_accuracy_drop: Points = 1.0
    """Points of val accuracy that may be lost; a quantized model that loses more is not kept."""
    recover: bool = True
    """Where too much is lost, let the float model teach the int8 one within its 8 bits."""
    epochs: PositiveInt | Auto = "auto"
    """Passes over the training images while it is taught; auto is about 200 steps."""
    learning_rate: PositiveFloat = 1e-4
    """Peak rate while it is taught: its weights fit already, but for their rounding."""
    max_minutes: MaxMinutes = None
    """Time for teaching it, in place of epochs."""
    keep_head_float: bool = False
    """Leave the last layer in float32."""
    percentile: OpenFraction = 0.0
    """Part of each activation's extremes to cut off; 0 keeps the whole range."""
