"""What can be done to a picture: pure functions on pixels, through torchvision v2.

Each takes uint8 (H, W, 3), a strength in [0, 1] and a generator, and gives the same shape. At
strength 0 each returns its input. Ranges at strength 1 are RandAugment's own (Cubuk et al. 2019,
arXiv 1909.13719). torchvision's classes draw from the global generator, which threads share, so
the draws are made here and only its functions are used.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from acclimate.data.contract import Pixels

Operation = Callable[[Pixels, float, np.random.Generator], Pixels]

_GREY = [128, 128, 128]


def _signed(strength: float, most: float, rng: np.random.Generator) -> float:
    return float(rng.uniform(-most, most)) * strength


def identity(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """The image as it is."""
    return image


def shear_x(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Slanted sideways, up to 17 degrees."""
    return _affine(image, shear=[_signed(strength, 17.2, rng), 0.0])


def shear_y(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Slanted upwards, up to 17 degrees."""
    return _affine(image, shear=[0.0, _signed(strength, 17.2, rng)])


def translate_x(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Moved sideways, up to 45 % of the width."""
    return _affine(image, translate=[round(_signed(strength, 0.45, rng) * image.shape[1]), 0])


def translate_y(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Moved up or down, up to 45 % of the height."""
    return _affine(image, translate=[0, round(_signed(strength, 0.45, rng) * image.shape[0])])


def rotate(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Turned, up to 30 degrees."""
    return _affine(image, angle=_signed(strength, 30.0, rng))


def brightness(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Darker or brighter, by up to 90 %."""
    return _array(tv.adjust_brightness(_picture(image), 1 + _signed(strength, 0.9, rng)))


def color(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Paler or more saturated, by up to 90 %."""
    return _array(tv.adjust_saturation(_picture(image), 1 + _signed(strength, 0.9, rng)))


def contrast(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Flatter or starker, by up to 90 %."""
    return _array(tv.adjust_contrast(_picture(image), 1 + _signed(strength, 0.9, rng)))


def sharpness(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Softer or sharper, by up to 90 %."""
    return _array(tv.adjust_sharpness(_picture(image), 1 + _signed(strength, 0.9, rng)))


def posterize(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Fewer levels a channel, down to 4 bits."""
    return _array(tv.posterize(_picture(image), 8 - round(4 * strength)))


def solarize(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Values above a threshold inverted; all of them at strength 1."""
    return _array(tv.solarize(_picture(image), 256 * (1 - strength))) if strength else image


def autocontrast(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Levels stretched to the whole range, with a chance of `strength`."""
    return _array(tv.autocontrast(_picture(image))) if rng.random() < strength else image


def equalize(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Histogram flattened, with a chance of `strength`."""
    return _array(tv.equalize(_picture(image))) if rng.random() < strength else image


def invert(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Light and dark exchanged, with a chance of `strength`."""
    return 255 - image if rng.random() < strength else image


def blur(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Out of focus: Gaussian, up to 1/20 of the shorter side."""
    sigma = rng.uniform(0, min(image.shape[:2]) / 20) * strength
    # Pillow's own: torchvision's would start PyTorch's threads inside each decoding thread, which
    # made a whole training epoch 40 % slower.
    return _array(_picture(image).filter(ImageFilter.GaussianBlur(sigma)))


def noise(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Grain: Gaussian, up to 12 % of the range."""
    sigma = rng.uniform(0, 0.12 * 255) * strength
    grain = rng.standard_normal(image.shape, np.float32) * np.float32(sigma)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def erase(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """A rectangle of noise over up to a third of the image (Zhong et al. 2017, 1708.04896)."""
    height, width = image.shape[:2]
    side = np.sqrt(rng.uniform(0.02, 0.33) * strength)
    stretch = np.exp(rng.uniform(np.log(0.3), np.log(3.3)) / 2)
    h = min(height, round(height * side * stretch))
    w = min(width, round(width * side / stretch))
    top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
    erased = image.copy()
    erased[top : top + h, left : left + w] = rng.integers(0, 256, (h, w, 3), np.uint8)
    return erased


def flip_y(image: Pixels) -> Pixels:
    """Top and bottom exchanged."""
    return np.ascontiguousarray(image[::-1])


def _affine(
    image: Pixels,
    *,
    angle: float = 0.0,
    translate: list[int] | None = None,
    shear: list[float] | None = None,
) -> Pixels:
    """One affine map on a grey ground (black corners would be a feature to learn)."""
    moved = tv.affine(
        _picture(image),
        angle=angle,
        translate=translate or [0, 0],
        scale=1.0,
        shear=shear or [0.0, 0.0],
        interpolation=InterpolationMode.BILINEAR,
        fill=_GREY,
    )
    return _array(moved)


def _picture(image: Pixels) -> Image.Image:
    return Image.fromarray(image)


def _array(image: Image.Image) -> Pixels:
    return np.asarray(image)


OPERATIONS: dict[str, Operation] = {
    "identity": identity,
    "shear_x": shear_x,
    "shear_y": shear_y,
    "translate_x": translate_x,
    "translate_y": translate_y,
    "rotate": rotate,
    "brightness": brightness,
    "color": color,
    "contrast": contrast,
    "sharpness": sharpness,
    "posterize": posterize,
    "solarize": solarize,
    "autocontrast": autocontrast,
    "equalize": equalize,
    "invert": invert,
    "blur": blur,
    "noise": noise,
    "erase": erase,
}
"""(uint8 (H, W, 3), strength in [0, 1], generator) to uint8 (H, W, 3)."""
