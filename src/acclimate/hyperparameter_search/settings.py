"""Settings of the search for settings."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import AfterValidator, NonNegativeFloat, PositiveFloat

from acclimate.fine_tuning.settings import HeadName, TrainableName
from acclimate.settings import Auto, OpenFraction, Settings
from acclimate.training.settings import LayerDecay


def _ascending(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError("must have its lower end first")
    return ends


_Rates = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_ascending)]
_Amounts = Annotated[tuple[NonNegativeFloat, NonNegativeFloat], AfterValidator(_ascending)]
_LayerDecays = Annotated[tuple[LayerDecay, LayerDecay], AfterValidator(_ascending)]
_Parts = Annotated[tuple[OpenFraction, OpenFraction], AfterValidator(_ascending)]


class Search(Settings):
    """What `fine-tune --trials` tries; settings that are given are not tried, null and [] neither.

    Both ends of a range belong to it.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {"trained": "trainable"}

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
    trainable: tuple[TrainableName, ...] = ("all", "last", "lora")
    """Which weights learn."""
    mixup: tuple[NonNegativeFloat, ...] = (0.0, 0.2)
    """Of the section augment."""
