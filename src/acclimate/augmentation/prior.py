"""What an augmentation is expected to cost before the test, and how the test changes that.

Small samples are noisy: the cost of an operation on 100 images has a standard error of 3 points,
which is as much as the tolerance. So the measured cost is averaged with the usual one, each
weighted by its precision. Small samples lean on what is usual, large ones on the data.
"""

from dataclasses import dataclass

from acclimate.augmentation.data_kind import DataKind
from acclimate.evaluation.metrics import Interval

CONFIDENCE = 0.9
"""Of a cost's interval: each end is a one-sided 95 % bound."""
_Z = 1.645
"""Standard errors from the middle of that interval to its end."""
_SPREAD = 2.0
"""Points: standard deviation of costs around the usual one, between data sets of a kind."""


@dataclass(frozen=True)
class CostPrior:
    """The usual cost of an augmentation.

    Attributes:
        mean: Points of accuracy.
        spread: Its standard deviation over data sets, in points.
    """

    mean: float
    spread: float = _SPREAD


@dataclass(frozen=True)
class SharePrior:
    """The usual share of flipped images that are distinguished from original ones.

    Attributes:
        mean: In [0, 1].
        images: Number of images that it counts as.
    """

    mean: float
    images: int = 60


@dataclass(frozen=True)
class Estimate:
    """What is expected after the test.

    Attributes:
        value: Points of accuracy.
        error: Its standard error, in points.
    """

    value: float
    error: float

    @property
    def low(self) -> float:
        """The lower end of its interval at `CONFIDENCE`."""
        return self.value - _Z * self.error


def joined(measured: Interval, prior: CostPrior) -> Estimate:
    """The mean of the measured and the usual cost, weighted by their precisions.

    The more images were measured, the narrower the interval and the closer the result is to the
    measured cost.

    Args:
        measured: Points, with the interval at `CONFIDENCE`.
        prior: The usual cost.

    Returns:
        The estimate; its value is between the measured and the usual cost.
    """
    error = (measured.high - measured.low) / (2 * _Z)
    weight = prior.spread**2 / (prior.spread**2 + error**2)
    value = prior.mean + weight * (measured.value - prior.mean)
    return Estimate(value, weight**0.5 * error)


def expected_share(detected: int, images: int, prior: SharePrior) -> float:
    """The share of distinguished images, the usual one counted as some more images.

    Args:
        detected: Number of images that were distinguished from their flipped copies.
        images: Number of all images.
        prior: The usual share.

    Returns:
        In [0, 1].
    """
    return (detected + prior.mean * prior.images) / (images + prior.images)


def operation_prior(name: str, strength: float, kind: DataKind) -> CostPrior:
    """The usual cost of an operation at a strength.

    Args:
        name: "crop", "jitter", or a key of `OPERATIONS`.
        strength: In [0, 1].
        kind: Of the data.

    Returns:
        The prior; its mean is proportional to the strength.
    """
    photographs, others = _FULL.get(name, (_GENTLE, _GENTLE))
    return CostPrior(strength * (photographs if kind.photographs else others))


_GENTLE = 2.0
_FULL: dict[str, tuple[float, float]] = {
    "crop": (2.0, 10.0),
    "translate_x": (2.0, 8.0),
    "translate_y": (2.0, 8.0),
    "rotate": (3.0, 6.0),
    "jitter": (7.0, 7.0),
    "blur": (7.0, 2.0),
    "noise": (6.0, 6.0),
    "solarize": (4.0, 4.0),
    "erase": (8.0, 24.0),
}
"""Points at full strength, of photographs and of all other images, rounded from measurements on
112 images of six data sets (flowers, waste, photographs; two of digits, arrows). What hides or
moves a part costs more where a few strokes make the label."""
