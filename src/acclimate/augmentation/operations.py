"""Augmentation operations: pure functions on pixels, through torchvision v2.

Each takes uint8 (H, W, 3), a strength in [0, 1] and a generator, and returns the same shape. At
strength 0 each returns its input. torchvision's transform classes use the global generator, which
threads share, so we sample the parameters ourselves (`parameters`) and use only its functionals.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from acclimate.augmentation import parameters
from acclimate.augmentation.parameters import Affine, Params, Patch, Sampler, Size
from acclimate.data.images.contract import Pixels

GREY = 128
"""Fill value outside of the image; black corners would be a feature to learn."""


@dataclass(frozen=True)
class Operation:
    """An augmentation operation.

    Attributes:
        sample: Samples the parameters.
        apply: uint8 (H, W, 3) and the parameters to the same shape.
    """

    sample: Sampler
    apply: Callable[[Pixels, Params], Pixels]

    def __call__(self, image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
        """Samples the parameters and applies them.

        Args:
            image: uint8, (H, W, 3).
            strength: In [0, 1]; some policies go beyond.
            rng: Samples the parameters.

        Returns:
            uint8, (H, W, 3).
        """
        return self.apply(image, self.sample(size_of(image), strength, rng))


def size_of(image: Pixels) -> Size:
    """Height and width of (H, W, 3)."""
    return Size(image.shape[0], image.shape[1])


def identity(image: Pixels, params: None) -> Pixels:
    """Returns the image as it is."""
    return image


def affine(image: Pixels, params: Affine) -> Pixels:
    """Rotates, shears or shifts, with a grey fill."""
    return _pixels(
        tv.affine(
            _pil(image),
            angle=params.angle,
            translate=[params.right, params.down],
            scale=1.0,
            shear=[params.shear_x, params.shear_y],
            interpolation=InterpolationMode.BILINEAR,
            fill=[GREY] * 3,
        )
    )


def adjust_brightness(image: Pixels, factor: float) -> Pixels:
    """Makes the image darker or brighter."""
    return _pixels(tv.adjust_brightness(_pil(image), factor))


def adjust_saturation(image: Pixels, factor: float) -> Pixels:
    """Makes colors paler or stronger."""
    return _pixels(tv.adjust_saturation(_pil(image), factor))


def adjust_contrast(image: Pixels, factor: float) -> Pixels:
    """Lowers or raises the contrast."""
    return _pixels(tv.adjust_contrast(_pil(image), factor))


def adjust_sharpness(image: Pixels, factor: float) -> Pixels:
    """Makes the image softer or sharper."""
    return _pixels(tv.adjust_sharpness(_pil(image), factor))


def posterize(image: Pixels, bits: int) -> Pixels:
    """Reduces the bits per channel."""
    return _pixels(tv.posterize(_pil(image), bits))


def solarize(image: Pixels, threshold: float) -> Pixels:
    """Inverts all values from a threshold on."""
    return _pixels(tv.solarize(_pil(image), threshold))


def autocontrast(image: Pixels, apply: bool) -> Pixels:
    """Stretches each channel to the whole range."""
    return _pixels(tv.autocontrast(_pil(image))) if apply else image


def equalize(image: Pixels, apply: bool) -> Pixels:
    """Equalizes the histogram of each channel."""
    return _pixels(tv.equalize(_pil(image))) if apply else image


def invert(image: Pixels, apply: bool) -> Pixels:
    """Inverts all values."""
    return 255 - image if apply else image


def gaussian_blur(image: Pixels, sigma: float) -> Pixels:
    """Blurs the image."""
    # Pillow's blur: torchvision's starts PyTorch's threads inside each decoding thread, which made
    # a whole training epoch 40 % slower.
    return _pixels(_pil(image).filter(ImageFilter.GaussianBlur(sigma)))


def add_noise(image: Pixels, grain: NDArray[np.float32]) -> Pixels:
    """Adds noise."""
    return np.asarray(np.clip(image + grain, 0, 255), np.uint8)


def erase(image: Pixels, patch: Patch) -> Pixels:
    """Covers a rectangle with noise."""
    erased = image.copy()
    height, width = patch.pixels.shape[:2]
    erased[patch.top : patch.top + height, patch.left : patch.left + width] = patch.pixels
    return erased


def vertical_flip(image: Pixels) -> Pixels:
    """Exchanges top and bottom."""
    return np.ascontiguousarray(image[::-1])


def _pil(image: Pixels) -> Image.Image:
    return Image.fromarray(image)


def _pixels(image: Image.Image) -> Pixels:
    return np.asarray(image)


OPERATIONS: dict[str, Operation] = {
    "identity": Operation(parameters.no_params, identity),
    "shear_x": Operation(parameters.shear_x, affine),
    "shear_y": Operation(parameters.shear_y, affine),
    "translate_x": Operation(parameters.translate_x, affine),
    "translate_y": Operation(parameters.translate_y, affine),
    "rotate": Operation(parameters.rotate, affine),
    "brightness": Operation(parameters.factor, adjust_brightness),
    "color": Operation(parameters.factor, adjust_saturation),
    "contrast": Operation(parameters.factor, adjust_contrast),
    "sharpness": Operation(parameters.factor, adjust_sharpness),
    "posterize": Operation(parameters.bits, posterize),
    "solarize": Operation(parameters.threshold, solarize),
    "autocontrast": Operation(parameters.whether, autocontrast),
    "equalize": Operation(parameters.whether, equalize),
    "invert": Operation(parameters.whether, invert),
    "blur": Operation(parameters.blur_radius, gaussian_blur),
    "noise": Operation(parameters.grain, add_noise),
    "erase": Operation(parameters.patch, erase),
}
"""(uint8 (H, W, 3), strength in [0, 1], generator) to uint8 (H, W, 3)."""
