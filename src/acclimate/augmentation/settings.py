"""Settings of the augmentation room."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, ValidationInfo, field_validator

from acclimate.settings import Auto, Fraction, Points, Settings

PolicyName = Literal["auto", "none", "basic", "randaugment", "trivialaugment", "augmix"]
OperationName = Literal[
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness",
    "color", "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize",
    "invert", "blur", "noise", "erase",
]  # fmt: skip

PHOTO_OPERATIONS: tuple[OperationName, ...] = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness",
    "color", "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip
"""The fourteen of RandAugment (Cubuk et al. 2019, arXiv 1909.13719)."""
Part = Annotated[float, Field(gt=0, le=1)]
"""Of an image's area, some of which must be left."""

APART_FROM_MIXING = (
    "compares views of one image, and mixup and cutmix blend several: leave it out, or them"
)


class Augment(Settings):
    """What is done to training images. Never to val and test."""

    policy: PolicyName = "auto"
    """Gives every setting below that is left at auto; auto asks the data what keeps labels true."""
    crop_area: Part | Auto = "auto"
    """Smallest part of the image's area that a random crop may show; 1: what evaluation sees."""
    horizontal_flip: bool | Auto = "auto"
    """Mirror half of the images."""
    vertical_flip: bool | Auto = "auto"
    """Turn half of the images upside down."""
    color: Fraction | Auto = "auto"
    """How far brightness, contrast and saturation wander; 0 leaves colours alone."""
    operations: tuple[OperationName, ...] | Auto = "auto"
    """What is drawn from for each image."""
    operations_per_image: NonNegativeInt | Auto = "auto"
    """How many of them each image gets; 0 turns them off."""
    strength: Fraction | Auto = "auto"
    """How strong each of them is; 0 leaves the image as it is."""
    erasing: Fraction | Auto = "auto"
    """Part of the images in which a rectangle is erased (Zhong et al. 2017, arXiv 1708.04896)."""
    mixup: NonNegativeFloat = 0.0
    """Blend pairs of images and labels; the alpha of Zhang et al. 2017 (arXiv 1710.09412)."""
    cutmix: NonNegativeFloat = 0.0
    """Paste parts of other images, labels by area; the alpha of Yun et al. 2019 (1905.04899)."""
    consistency: NonNegativeFloat | Auto = "auto"
    """Weight of agreeing on three views of an image, thrice a step's cost; auto: 12 for augmix."""
    tolerance: Points = 3.0
    """Points of probe accuracy that an operation may cost before auto leaves it out."""
    max_images: Annotated[int, Field(ge=40, le=2_000)] = 400
    """Images that auto judges by: more of them take longer and tell smaller costs."""

    @field_validator("consistency")
    @classmethod
    def _apart_from_mixing(cls, weight: float | Auto, info: ValidationInfo) -> float | Auto:
        if weight != "auto" and weight and (info.data.get("mixup") or info.data.get("cutmix")):
            raise ValueError(APART_FROM_MIXING)
        return weight
