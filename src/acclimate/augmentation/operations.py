"""What can be done to a picture: pure functions on pixels, through torchvision v2.

Each takes uint8 (H, W, 3), a strength in [0, 1] and a generator, and gives the same shape. At
strength 0 each returns its input. torchvision's classes draw from the global generator, which
threads share, so the draws are our own (`draws`) and only its functions are used.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from acclimate.augmentation import parameters
from acclimate.augmentation.parameters import Amount, Draw, Move, Patch, Side
from acclimate.data.images.contract import Pixels

GREY = 128
"""What comes into the picture from outside; black corners would be a feature to learn."""


@dataclass(frozen=True)
class Operation:
    """Something that can be done to a picture.

    Attributes:
        draw: Makes the amount.
        work: uint8 (H, W, 3) and the amount to the same shape.
    """

    draw: Draw
    work: Callable[[Pixels, Amount], Pixels]

    def __call__(self, image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
        """The picture, changed.

        Args:
            image: uint8, (H, W, 3).
            strength: In [0, 1]; some go beyond.
            rng: Draws how much.

        Returns:
            uint8, (H, W, 3).
        """
        return self.work(image, self.draw(side_of(image), strength, rng))


def side_of(image: Pixels) -> Side:
    """Height and width of (H, W, 3)."""
    return Side(image.shape[0], image.shape[1])


def left_alone(image: Pixels, amount: None) -> Pixels:
    """The image as it is."""
    return image


def moved(image: Pixels, move: Move) -> Pixels:
    """Turned, slanted or shifted, on a grey ground."""
    return _array(
        tv.affine(
            _picture(image),
            angle=move.angle,
            translate=[move.right, move.down],
            scale=1.0,
            shear=[move.shear_x, move.shear_y],
            interpolation=InterpolationMode.BILINEAR,
            fill=[GREY] * 3,
        )
    )


def brightened(image: Pixels, factor: float) -> Pixels:
    """Darker or brighter."""
    return _array(tv.adjust_brightness(_picture(image), factor))


def saturated(image: Pixels, factor: float) -> Pixels:
    """Paler or more colourful."""
    return _array(tv.adjust_saturation(_picture(image), factor))


def contrasted(image: Pixels, factor: float) -> Pixels:
    """Flatter or starker."""
    return _array(tv.adjust_contrast(_picture(image), factor))


def sharpened(image: Pixels, factor: float) -> Pixels:
    """Softer or sharper."""
    return _array(tv.adjust_sharpness(_picture(image), factor))


def posterized(image: Pixels, bits: int) -> Pixels:
    """Fewer levels a channel."""
    return _array(tv.posterize(_picture(image), bits))


def solarized(image: Pixels, threshold: float) -> Pixels:
    """Values from a threshold on inverted."""
    return _array(tv.solarize(_picture(image), threshold))


def stretched(image: Pixels, done: bool) -> Pixels:
    """Levels of each channel stretched to the whole range."""
    return _array(tv.autocontrast(_picture(image))) if done else image


def equalized(image: Pixels, done: bool) -> Pixels:
    """Histogram of each channel flattened."""
    return _array(tv.equalize(_picture(image))) if done else image


def inverted(image: Pixels, done: bool) -> Pixels:
    """Light and dark exchanged."""
    return 255 - image if done else image


def blurred(image: Pixels, sigma: float) -> Pixels:
    """Out of focus."""
    # Pillow's own: torchvision's would start PyTorch's threads inside each decoding thread, which
    # made a whole training epoch 40 % slower.
    return _array(_picture(image).filter(ImageFilter.GaussianBlur(sigma)))


def grained(image: Pixels, grain: NDArray[np.float32]) -> Pixels:
    """With noise added."""
    return np.asarray(np.clip(image + grain, 0, 255), np.uint8)


def covered(image: Pixels, patch: Patch) -> Pixels:
    """With a rectangle of noise over it."""
    found = image.copy()
    height, width = patch.pixels.shape[:2]
    found[patch.top : patch.top + height, patch.left : patch.left + width] = patch.pixels
    return found


def flip_y(image: Pixels) -> Pixels:
    """Top and bottom exchanged."""
    return np.ascontiguousarray(image[::-1])


def _picture(image: Pixels) -> Image.Image:
    return Image.fromarray(image)


def _array(image: Image.Image) -> Pixels:
    return np.asarray(image)


OPERATIONS: dict[str, Operation] = {
    "identity": Operation(parameters.nothing, left_alone),
    "shear_x": Operation(parameters.shear_x, moved),
    "shear_y": Operation(parameters.shear_y, moved),
    "translate_x": Operation(parameters.translate_x, moved),
    "translate_y": Operation(parameters.translate_y, moved),
    "rotate": Operation(parameters.rotate, moved),
    "brightness": Operation(parameters.factor, brightened),
    "color": Operation(parameters.factor, saturated),
    "contrast": Operation(parameters.factor, contrasted),
    "sharpness": Operation(parameters.factor, sharpened),
    "posterize": Operation(parameters.bits, posterized),
    "solarize": Operation(parameters.threshold, solarized),
    "autocontrast": Operation(parameters.chance, stretched),
    "equalize": Operation(parameters.chance, equalized),
    "invert": Operation(parameters.chance, inverted),
    "blur": Operation(parameters.blur_radius, blurred),
    "noise": Operation(parameters.grain, grained),
    "erase": Operation(parameters.patch, covered),
}
"""(uint8 (H, W, 3), strength in [0, 1], generator) to uint8 (H, W, 3)."""
