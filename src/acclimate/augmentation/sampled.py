"""All that was drawn for a picture, before anything is done to its pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from acclimate.augmentation.operations import OPERATIONS
from acclimate.augmentation.parameters import Amount
from acclimate.data.images.contract import Pixels


@dataclass(frozen=True)
class Change:
    """An operation, and how much of it.

    Attributes:
        name: In `OPERATIONS`.
        amount: What its draw made.
    """

    name: str
    amount: Amount


@dataclass(frozen=True)
class Chain:
    """One of AugMix's.

    Attributes:
        share: Of the picture that comes of it.
        changes: One after another.
    """

    share: float
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Drawn:
    """What is to be done to one picture.

    Attributes:
        changes: One after another.
        chains: Then blended; none leaves the picture as it is.
        share: What the picture itself has of the blend.
        last: After that.
    """

    changes: tuple[Change, ...] = ()
    chains: tuple[Chain, ...] = ()
    share: float = 1.0
    last: tuple[Change, ...] = ()

    def apply(self, pixels: Pixels) -> Pixels:
        """The picture with all of it done.

        Args:
            pixels: uint8, (S, S, 3).

        Returns:
            uint8, (S, S, 3).
        """
        pixels = _changed(pixels, self.changes)
        if self.chains:
            blended = self.share * pixels.astype(np.float32)
            for chain in self.chains:
                blended += np.float32(chain.share) * _changed(pixels, chain.changes)
            pixels = blended.round().clip(0, 255).astype(np.uint8)
        return _changed(pixels, self.last)


@dataclass(frozen=True)
class Begun:
    """A picture that is cropped and flipped, and what is still to be done to it.

    Attributes:
        pixels: uint8, (S, S, 3).
        drawn: For each altered view.
    """

    pixels: Pixels
    drawn: tuple[Drawn, ...]

    @property
    def compared(self) -> bool:
        """Whether the plain view is shown as well."""
        return len(self.drawn) > 1

    def done(self) -> Pixels:
        """uint8, (S, S, 3); where views are compared (V, S, S, 3), the plain one first."""
        altered = [drawn.apply(self.pixels) for drawn in self.drawn]
        return np.stack([self.pixels, *altered]) if self.compared else altered[0]


def _changed(pixels: Pixels, changes: Sequence[Change]) -> Pixels:
    for change in changes:
        pixels = OPERATIONS[change.name].work(pixels, change.amount)
    return pixels
