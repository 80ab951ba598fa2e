"""Whether a compressed model stays inside an accuracy budget, as far as the val images can show.

Both models predict the same images, so only those on which exactly one is correct carry
information. The bound is one-sided, and corrected for having compared several models: the smallest
drop of many looks better than it is.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acclimate.evaluation.comparison import paired_interval

TYPICAL_FLIPS = 0.01
"""Share of images whose correctness typically changes by quantization to 8 bits. It is used to tell
before a search what the val images can show."""


@dataclass(frozen=True)
class AccuracyDrop:
    """The drop of a compressed model's accuracy from the original's on the same images.

    Attributes:
        images: Number of images.
        lost: Number of images that only the original predicts correctly.
        gained: Number of images that only the compressed model predicts correctly.
        flips: Share of images for which the two models predict different classes, in [0, 1].
    """

    images: int
    lost: int
    gained: int
    flips: float

    @property
    def estimate(self) -> float:
        """The drop in percentage points; below 0 if the compressed model is more accurate."""
        return 100 * (self.lost - self.gained) / self.images

    def __str__(self) -> str:
        """The change in words."""
        if self.lost == self.gained:
            return "val accuracy stays the same"
        verb = "drops" if self.estimate > 0 else "rises"
        return f"val accuracy {verb} by {abs(self.estimate):.2g} points"

    def upper_bound(self, confidence: float, comparisons: int = 1) -> float:
        """The one-sided upper confidence bound of the drop, in percentage points.

        It is the bound of the paired score interval (Tango 1998), with Bonferroni's correction.

        Args:
            confidence: In (0.5, 1).
            comparisons: Number of models that are compared, this one included: all their bounds
                hold at once with this confidence.

        Returns:
            The bound. It is below 0 if the compressed model is certainly more accurate.
        """
        return _upper_bound(self.gained, self.lost, self.images, confidence, comparisons)


def _upper_bound(
    gained: float, lost: float, images: int, confidence: float, comparisons: int
) -> float:
    one_sided = 1 - (1 - confidence) / comparisons
    return -100 * paired_interval(gained, lost, images, 2 * one_sided - 1).low


def accuracy_drop(
    labels: NDArray[np.int64], before: NDArray[np.int64], after: NDArray[np.int64]
) -> AccuracyDrop:
    """Compares the predictions of two models.

    Args:
        labels: int64, (N,), N > 0.
        before: int64, (N,): the classes that the original predicts.
        after: int64, (N,): the classes that the compressed model predicts.

    Returns:
        The drop.
    """
    right, still_right = before == labels, after == labels
    return AccuracyDrop(
        images=len(labels),
        lost=int((right & ~still_right).sum()),
        gained=int((~right & still_right).sum()),
        flips=float((before != after).mean()),
    )


def certifiable_drop(
    images: int, confidence: float, comparisons: int = 1, flips: float = TYPICAL_FLIPS
) -> float:
    """The smallest drop that so many images can rule out, for a model that is as accurate.

    Args:
        images: Number of images, above 0.
        confidence: Of the bound.
        comparisons: Number of models that are compared.
        flips: Share of images that exactly one model predicts correctly: half of them each.

    Returns:
        Percentage points.
    """
    changed = flips * images / 2  # an expected number: it need not be whole
    return _upper_bound(changed, changed, images, confidence, comparisons)


def images_needed(
    drop: float, confidence: float, comparisons: int = 1, flips: float = TYPICAL_FLIPS
) -> int:
    """How many images can rule out a drop; see `certifiable_drop`.

    Args:
        drop: Percentage points, above 0.
        confidence: Of the bound.
        comparisons: Number of models that are compared.
        flips: Share of images that exactly one model predicts correctly.

    Returns:
        The number of images, rounded up to two digits.
    """
    low, high = 1, 2
    while certifiable_drop(high, confidence, comparisons, flips) > drop:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if certifiable_drop(middle, confidence, comparisons, flips) > drop:
            low = middle
        else:
            high = middle
    unit = int(10 ** max(0, len(str(high)) - 2))
    return math.ceil(high / unit) * unit
