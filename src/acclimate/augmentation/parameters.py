"""Samples the random parameters of operations, separately from applying them to pixels.

So the same parameters serve one image (`operations`) and a batch on a device
(`batched_operations`). Each function takes the image's size, a strength in [0, 1] and a generator.
The ranges at strength 1 are RandAugment's (Cubuk et al. 2019, arXiv 1909.13719).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from acclimate.data.images.contract import Pixels


class Size(NamedTuple):
    """Height and width of an image, in px."""

    height: int
    width: int


Params = Any
"""The sampled parameters of an operation; each operation has its own type."""

Sampler = Callable[[Size, float, np.random.Generator], Params]


@dataclass(frozen=True)
class Affine:
    """An affine map around the center.

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
    """Pixels that cover a rectangle.

    Attributes:
        top: px.
        left: px.
        pixels: uint8, (h, w, 3); h or w may be 0.
    """

    top: int
    left: int
    pixels: Pixels


def _symmetric(strength: float, most: float, rng: np.random.Generator) -> float:
    return float(rng.uniform(-most, most)) * strength


def no_params(size: Size, strength: float, rng: np.random.Generator) -> None:
    """No parameters."""


def shear_x(size: Size, strength: float, rng: np.random.Generator) -> Affine:
    """Shears by up to 17 degrees."""
    return Affine(shear_x=_symmetric(strength, 17.2, rng))


def shear_y(size: Size, strength: float, rng: np.random.Generator) -> Affine:
    """Shears by up to 17 degrees."""
    return Affine(shear_y=_symmetric(strength, 17.2, rng))


def translate_x(size: Size, strength: float, rng: np.random.Generator) -> Affine:
    """Shifts by up to 45 % of the width."""
    return Affine(right=round(_symmetric(strength, 0.45, rng) * size.width))


def translate_y(size: Size, strength: float, rng: np.random.Generator) -> Affine:
    """Shifts by up to 45 % of the height."""
    return Affine(down=round(_symmetric(strength, 0.45, rng) * size.height))


def rotate(size: Size, strength: float, rng: np.random.Generator) -> Affine:
    """Rotates by up to 30 degrees."""
    return Affine(angle=_symmetric(strength, 30.0, rng))


def factor(size: Size, strength: float, rng: np.random.Generator) -> float:
    """Factor of brightness and the like: up to 90 % above or below 1, which changes nothing."""
    return 1 + _symmetric(strength, 0.9, rng)


def bits(size: Size, strength: float, rng: np.random.Generator) -> int:
    """Bits per channel: from 8 down to 4; beyond strength 1 fewer, but at least 1."""
    return max(1, 8 - round(4 * strength))


def threshold(size: Size, strength: float, rng: np.random.Generator) -> float:
    """Threshold from which values are inverted: from 256 (none) down to 0."""
    return 256 * (1 - strength)


def whether(size: Size, strength: float, rng: np.random.Generator) -> bool:
    """Whether the operation is applied at all."""
    return bool(rng.random() < strength)


def blur_radius(size: Size, strength: float, rng: np.random.Generator) -> float:
    """Sigma in px, up to 1/20 of the shorter side."""
    return float(rng.uniform(0, min(size) / 20)) * strength


def grain(size: Size, strength: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Gaussian noise, float32, (H, W, 3), with sigma up to 12 % of the range."""
    sigma = rng.uniform(0, 0.12 * 255) * strength
    return rng.standard_normal((*size, 3), np.float32) * np.float32(sigma)


def patch(size: Size, strength: float, rng: np.random.Generator) -> Patch:
    """Noise over up to a third of the image (Zhong et al. 2017, arXiv 1708.04896)."""
    height, width = size
    edge = np.sqrt(rng.uniform(0.02, 0.33) * strength)
    stretch = np.exp(rng.uniform(np.log(0.3), np.log(3.3)) / 2)
    h = min(height, round(height * edge * stretch))
    w = min(width, round(width * edge / stretch))
    top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
    return Patch(int(top), int(left), rng.integers(0, 256, (h, w, 3), np.uint8))
