"""How much an operation does to a picture: what is random of it, drawn apart from the pixels' work.

So the same draws serve a picture alone (`operations`) and a batch on a device (`batched`). Each
takes height and width in px, a strength in [0, 1] and a generator. Ranges at strength 1 are
RandAugment's own (Cubuk et al. 2019, arXiv 1909.13719).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from acclimate.data.images.contract import Pixels


class Side(NamedTuple):
    """Of a picture, in px."""

    height: int
    width: int


Amount = Any
"""What an operation's work takes beside the pixels: its draw says which kind that is."""

Draw = Callable[[Side, float, np.random.Generator], Amount]


@dataclass(frozen=True)
class Move:
    """An affine map around the middle.

    Attributes:
        angle: Degrees, clockwise.
        right: px.
        down: px.
        shear_x: Degrees.
        shear_y: Degrees.
    """

    angle: float = 0.0
    right: int = 0
    down: int = 0
    shear_x: float = 0.0
    shear_y: float = 0.0


@dataclass(frozen=True)
class Patch:
    """What covers a rectangle.

    Attributes:
        top: px.
        left: px.
        pixels: uint8, (h, w, 3); h or w may be 0.
    """

    top: int
    left: int
    pixels: Pixels


def _signed(strength: float, most: float, rng: np.random.Generator) -> float:
    return float(rng.uniform(-most, most)) * strength


def nothing(side: Side, strength: float, rng: np.random.Generator) -> None:
    """No amount: None."""


def shear_x(side: Side, strength: float, rng: np.random.Generator) -> Move:
    """Up to 17 degrees."""
    return Move(shear_x=_signed(strength, 17.2, rng))


def shear_y(side: Side, strength: float, rng: np.random.Generator) -> Move:
    """Up to 17 degrees."""
    return Move(shear_y=_signed(strength, 17.2, rng))


def translate_x(side: Side, strength: float, rng: np.random.Generator) -> Move:
    """Up to 45 % of the width."""
    return Move(right=round(_signed(strength, 0.45, rng) * side.width))


def translate_y(side: Side, strength: float, rng: np.random.Generator) -> Move:
    """Up to 45 % of the height."""
    return Move(down=round(_signed(strength, 0.45, rng) * side.height))


def rotate(side: Side, strength: float, rng: np.random.Generator) -> Move:
    """Up to 30 degrees."""
    return Move(angle=_signed(strength, 30.0, rng))


def factor(side: Side, strength: float, rng: np.random.Generator) -> float:
    """Of brightness and the like: 1 changes nothing, up to 90 % less or more."""
    return 1 + _signed(strength, 0.9, rng)


def bits(side: Side, strength: float, rng: np.random.Generator) -> int:
    """Of a channel: from 8 down to 4, beyond strength 1 fewer, and one at least."""
    return max(1, 8 - round(4 * strength))


def threshold(side: Side, strength: float, rng: np.random.Generator) -> float:
    """From 256, above which nothing lies, down to 0."""
    return 256 * (1 - strength)


def chance(side: Side, strength: float, rng: np.random.Generator) -> bool:
    """Whether it is done at all."""
    return bool(rng.random() < strength)


def blur_radius(side: Side, strength: float, rng: np.random.Generator) -> float:
    """Sigma in px, up to 1/20 of the shorter side."""
    return float(rng.uniform(0, min(side) / 20)) * strength


def grain(side: Side, strength: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Gaussian, float32, (H, W, 3): up to 12 % of the range."""
    sigma = rng.uniform(0, 0.12 * 255) * strength
    return rng.standard_normal((*side, 3), np.float32) * np.float32(sigma)


def patch(side: Side, strength: float, rng: np.random.Generator) -> Patch:
    """Noise over up to a third of the picture (Zhong et al. 2017, 1708.04896)."""
    height, width = side
    edge = np.sqrt(rng.uniform(0.02, 0.33) * strength)
    stretch = np.exp(rng.uniform(np.log(0.3), np.log(3.3)) / 2)
    h = min(height, round(height * edge * stretch))
    w = min(width, round(width * edge / stretch))
    top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
    return Patch(int(top), int(left), rng.integers(0, 256, (h, w, 3), np.uint8))
