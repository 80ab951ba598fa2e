"""Random resized crops."""

import math

import numpy as np

from acclimate.data.images.contract import InputContract, Pixels, Resizable

_LOG_RATIOS = (float(np.log(3 / 4)), float(np.log(4 / 3)))
"""Range of the aspect ratio (Szegedy et al. 2014, arXiv 1409.4842)."""


def random_crop(
    image: Resizable, contract: InputContract, area: float, rng: np.random.Generator
) -> Pixels:
    """A crop of random area and aspect ratio, at the network's input size.

    Args:
        image: RGB, any size.
        contract: Gives the size and the interpolation.
        area: Smallest part of the area that is shown; at 1, the image as in evaluation.
        rng: Samples area, ratio and position.

    Returns:
        uint8, (S, S, 3).
    """
    if area >= 1:
        return contract.fit(image)
    width, height = image.size
    # Relative to the square that evaluation uses, so that objects keep their size.
    side = min(width, height) * math.sqrt(_uniform(area, 1.0, rng))
    ratio = float(np.exp(_uniform(*_LOG_RATIOS, rng)))
    w, h = min(side * math.sqrt(ratio), width), min(side / math.sqrt(ratio), height)
    left, top = _uniform(0, width - w, rng), _uniform(0, height - h, rng)
    return contract.resize(image, (left, top, left + w, top + h))


def _uniform(low: float, high: float, rng: np.random.Generator) -> float:
    """Equal to `rng.uniform` and three times as fast: each training image needs four."""
    return low + (high - low) * rng.random()
