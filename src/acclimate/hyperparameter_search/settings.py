"""Settings of the hyperparameter search."""

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
    """What `fine-tune --trials` searches over.

    A setting that is given in `fine_tune` keeps its value in every trial; null or [] takes one out
    of the search. Ranges include both ends.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {"trained": "trainable"}

    learning_rate: _Rates | Auto | None = "auto"
    """Range; auto is from a tenth to ten times the default learning rate."""
    weight_decay: _Amounts | Auto | None = "auto"
    """Range; auto is from a tenth to ten times the default weight decay."""
    layer_decay: _LayerDecays | None = (0.6, 1.0)
    """Range of the learning rate's factor from each block to the one before it."""
    label_smoothing: _Parts | None = (0.0, 0.3)
    """Range; searched on cached features first."""
    dropout: _Parts | None = (0.0, 0.5)
    """Range; searched on cached features first."""
    head: tuple[HeadName, ...] = ("linear", "cosine", "mlp")
    """Kinds of heads. Those that are worse on cached features are not trained further."""
    trainable: tuple[TrainableName, ...] = ("all", "last", "lora")
    """Which weights learn."""
    mixup: tuple[NonNegativeFloat, ...] = (0.0, 0.2)
    """Values of `augment.mixup`."""
