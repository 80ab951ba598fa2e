"""A random part of an image, at the network's size."""

import math

import numpy as np

from acclimate.data.images.contract import InputContract, Pixels, Resizable

_LOG_RATIOS = (float(np.log(3 / 4)), float(np.log(4 / 3)))
"""Of the aspect ratios (Szegedy et al. 2014, arXiv 1409.4842)."""


def crop(
    image: Resizable, contract: InputContract, area: float, rng: np.random.Generator
) -> Pixels:
    """A crop of random area and ratio, as large as the image allows.

    Args:
        image: RGB, any size.
        contract: Gives the size and the interpolation.
        area: Smallest part of the area that is shown; at 1, what evaluation sees.
        rng: Draws area, ratio and place.

    Returns:
        uint8, (S, S, 3).
    """
    if area >= 1:
        return contract.fit(image)
    width, height = image.size
    # Measured on the square that evaluation sees, so that objects keep their size.
    side = min(width, height) * math.sqrt(_between(area, 1.0, rng))
    ratio = float(np.exp(_between(*_LOG_RATIOS, rng)))
    w, h = min(side * math.sqrt(ratio), width), min(side / math.sqrt(ratio), height)
    left, top = _between(0, width - w, rng), _between(0, height - h, rng)
    return contract.resize(image, (left, top, left + w, top + h))


def _between(low: float, high: float, rng: np.random.Generator) -> float:
    """What `rng.uniform` draws, in a third of its time: four for each picture of an epoch."""
    return low + (high - low) * rng.random()
