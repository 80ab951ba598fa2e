"""How a policy stands in its file, which may come from a stranger, and what was seen."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from acclimate.augmentation.settings import OperationName, Part
from acclimate.settings import Fraction, Settings

_Points = Annotated[float, Field(ge=-100, le=100)]


class Evidence(Settings):
    """What was seen of one operation at one strength, and what follows."""

    operation: str
    """A name in the table of operations, or crop, horizontal_flip, vertical_flip, jitter."""
    strength: Fraction
    """In [0, 1]; of a crop, the part of the area that may be cut off."""
    images: NonNegativeInt
    """How many images were judged, each with its copy."""
    plain: Fraction
    """Accuracy of a probe on the images as they are."""
    copies: Fraction
    """The same probe's accuracy on the copies."""
    learnt: Fraction
    """Accuracy on the copies of a probe that learnt from copies of other images as well."""
    cost: _Points
    """Points of accuracy lost on the copies: of flips by the first probe, else by the second."""
    low: _Points
    """Lower end of the cost's 90 % interval."""
    high: _Points
    """Upper end of the cost's 90 % interval."""
    told: Fraction | None = None
    """Of flips: the share of images that can be told from their copies; a half is none."""
    kept: bool
    """Whether the operation is used at this strength."""
    reason: str
    """In a few words."""


_Strength = Annotated[float, Field(ge=0, le=10)]


class PolicyRecord(Settings):
    """A policy's file, which may come from a stranger."""

    crop_area: Part
    horizontal_flip: bool
    color: Fraction
    operations: tuple[OperationName, ...]
    operations_per_image: Annotated[int, Field(ge=0, le=100)]
    strength: Fraction
    vertical_flip: bool = False
    strengths: dict[OperationName, _Strength] = {}  # noqa: RUF012 - pydantic copies defaults
    weights: dict[OperationName, Annotated[float, Field(gt=0, le=1e6)]] = {}  # noqa: RUF012
    vary: bool = False
    chains: Annotated[int, Field(ge=0, le=100)] = 0
    erasing: Fraction = 0.0
    mixup: NonNegativeFloat = 0.0
    cutmix: NonNegativeFloat = 0.0
    consistency: NonNegativeFloat = 0.0
    evidence: tuple[Evidence, ...] = ()
