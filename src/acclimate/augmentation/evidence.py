"""The format of policy files, and the evidence in them."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from acclimate.augmentation.settings import OperationName, Part
from acclimate.settings import Fraction, Settings

_Points = Annotated[float, Field(ge=-100, le=100)]


class Evidence(Settings):
    """The test of one operation at one strength, and its result."""

    operation: str
    """An operation's name, or crop, horizontal_flip, vertical_flip or jitter."""
    strength: Fraction
    """In [0, 1]; for a crop, the part of the area that may be cut off."""
    images: NonNegativeInt
    """Number of images, each tested with one augmented copy."""
    plain: Fraction
    """Accuracy of a probe on the images without augmentation."""
    copies: Fraction
    """Accuracy of the same probe on the augmented copies."""
    learnt: Fraction
    """Accuracy on the copies of a probe that was also fitted on copies of other images."""
    cost: _Points
    """Points of accuracy lost on the copies: for flips by the first probe, else by the second."""
    low: _Points
    """Lower end of the cost's 90 % interval."""
    high: _Points
    """Upper end of the cost's 90 % interval."""
    expected: _Points | None = None
    """Cost expected from the test and from other data of the kind; unknown in older files."""
    told: Fraction | None = None
    """For flips: share of images distinguished from their copies by a classifier; 0.5 is chance."""
    kept: bool
    """Whether the operation is used at this strength."""
    reason: str
    """Why it is used or not."""


_Strength = Annotated[float, Field(ge=0, le=10)]


class PolicyRecord(Settings):
    """The content of a policy file, validated since it may be untrusted."""

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
