"""Random transforms after sampling, before they are applied to pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from acclimate.augmentation.operations import OPERATIONS
from acclimate.augmentation.parameters import Params
from acclimate.data.images.contract import Pixels


@dataclass(frozen=True)
class AppliedOp:
    """An operation with its sampled parameters.

    Attributes:
        name: A key of `OPERATIONS`.
        params: What the operation's `sample` returned.
    """

    name: str
    params: Params


@dataclass(frozen=True)
class Chain:
    """One augmentation chain of AugMix.

    Attributes:
        weight: Of the chain's result in the blend.
        ops: Applied one after another.
    """

    weight: float
    ops: tuple[AppliedOp, ...]


@dataclass(frozen=True)
class SampledTransform:
    """Everything that one image undergoes after crop and flips.

    Attributes:
        ops: Applied one after another.
        chains: Then blended with the image; empty for no blend.
        image_weight: Of the image itself in the blend.
        last_ops: Applied after the blend.
    """

    ops: tuple[AppliedOp, ...] = ()
    chains: tuple[Chain, ...] = ()
    image_weight: float = 1.0
    last_ops: tuple[AppliedOp, ...] = ()

    def apply(self, pixels: Pixels) -> Pixels:
        """The transformed image.

        Args:
            pixels: uint8, (S, S, 3).

        Returns:
            uint8, (S, S, 3).
        """
        pixels = _apply_ops(pixels, self.ops)
        if self.chains:
            blended = self.image_weight * pixels.astype(np.float32)
            for chain in self.chains:
                blended += np.float32(chain.weight) * _apply_ops(pixels, chain.ops)
            pixels = blended.round().clip(0, 255).astype(np.uint8)
        return _apply_ops(pixels, self.last_ops)


@dataclass(frozen=True)
class PartialView:
    """A cropped and flipped image, with the transforms still to apply.

    Attributes:
        pixels: uint8, (S, S, 3).
        transforms: One for each altered view.
    """

    pixels: Pixels
    transforms: tuple[SampledTransform, ...]

    @property
    def with_plain_view(self) -> bool:
        """Whether the plain view belongs to the result, for a consistency loss."""
        return len(self.transforms) > 1

    def finish(self) -> Pixels:
        """uint8, (S, S, 3); with a consistency loss (V, S, S, 3), the plain view first."""
        altered = [transform.apply(self.pixels) for transform in self.transforms]
        return np.stack([self.pixels, *altered]) if self.with_plain_view else altered[0]


def _apply_ops(pixels: Pixels, ops: Sequence[AppliedOp]) -> Pixels:
    for op in ops:
        pixels = OPERATIONS[op.name].apply(pixels, op.params)
    return pixels
