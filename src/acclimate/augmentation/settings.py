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
"""RandAugment's fourteen operations (Cubuk et al. 2019, arXiv 1909.13719)."""
Part = Annotated[float, Field(gt=0, le=1)]
"""Part of an image's area; more than none."""

APART_FROM_MIXING = (
    "compares views of one image, and mixup and cutmix mix several: set one or the other"
)


class Augment(Settings):
    """Augments training images; val and test images stay as they are."""

    policy: PolicyName = "auto"
    """Default for settings left at auto; policy auto tests on your data which keep labels valid."""
    crop_area: Part | Auto = "auto"
    """Smallest part of the image area that a random crop shows; 1 for no random crop."""
    horizontal_flip: bool | Auto = "auto"
    """Flip half of the images horizontally."""
    vertical_flip: bool | Auto = "auto"
    """Flip half of the images vertically."""
    color: Fraction | Auto = "auto"
    """Strength of the color jitter (brightness, contrast, saturation); 0 turns it off."""
    operations: tuple[OperationName, ...] | Auto = "auto"
    """The operations to sample from for each image."""
    operations_per_image: NonNegativeInt | Auto = "auto"
    """Number of operations per image; 0 turns them off."""
    strength: Fraction | Auto = "auto"
    """Strength of the operations; 0 leaves the image as it is."""
    erasing: Fraction | Auto = "auto"
    """Part of the images that get random erasing (Zhong et al. 2017, arXiv 1708.04896)."""
    mixup: NonNegativeFloat = 0.0
    """Alpha of MixUp (Zhang et al. 2017, arXiv 1710.09412); 0 turns it off."""
    cutmix: NonNegativeFloat = 0.0
    """Alpha of CutMix (Yun et al. 2019, arXiv 1905.04899); 0 turns it off."""
    consistency: NonNegativeFloat | Auto = "auto"
    """Weight of a consistency loss over three views, at 3 times the cost; auto: 12 for augmix."""
    tolerance: Points = 3.0
    """Points of probe accuracy that an operation may cost before policy auto refuses it."""
    max_images: Annotated[int, Field(ge=40, le=2_000)] = 400
    """Maximum number of images that policy auto tests on; more detect smaller costs."""

    @field_validator("consistency")
    @classmethod
    def _apart_from_mixing(cls, weight: float | Auto, info: ValidationInfo) -> float | Auto:
        if weight != "auto" and weight and (info.data.get("mixup") or info.data.get("cutmix")):
            raise ValueError(APART_FROM_MIXING)
        return weight
