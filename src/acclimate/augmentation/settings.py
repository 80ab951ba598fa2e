"""Settings of the augmentation room."""

from typing import Literal

from pydantic import NonNegativeInt

from acclimate.settings import Fraction, Settings

OperationName = Literal[
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness",
    "color", "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize",
    "invert", "blur", "noise",
]  # fmt: skip

PHOTO_OPERATIONS: tuple[OperationName, ...] = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness",
    "color", "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip
"""The fourteen of RandAugment (Cubuk et al. 2019, arXiv 1909.13719)."""


class Augment(Settings):
    """What is done to training images. Never to val and test."""

    crop_area: Fraction = 0.5
    """Smallest part of the image's area that a random crop may show; 1: what evaluation sees."""
    horizontal_flip: bool = True
    """Mirror half of the images. Turn it off where left and right differ: digits, text, arrows."""
    color: Fraction = 0.3
    """How far brightness, contrast and saturation wander; 0 leaves colours alone."""
    operations: tuple[OperationName, ...] = PHOTO_OPERATIONS
    """What RandAugment draws from."""
    operations_per_image: NonNegativeInt = 1
    """How many of them each image gets; 0 turns RandAugment off."""
    strength: Fraction = 0.3
    """How strong each of them is; 0 leaves the image as it is."""
