"""From the samples that a file stores to 8-bit RGB: transparency, and samples of 16 bits."""

from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageFile

DECODING = 2
"""The version of decoding. Version 1, of models from before it was recorded, decodes JPEGs at the
smallest fraction that fits the input, and lays transparency on white. On 150 photos at 64 px it
changed pixels by up to 130 levels and probabilities by up to 0.87 against decoding at full size."""
BITS = 16
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
VISIBLE = 32
"""Levels of 255. Drawings whose mean distance from white is smaller are laid on black: at a tenth
of the contrast, thin lines would fall below the threshold of `low_contrast`."""

WIDE_COLORS = "RGB;16"
"""The mode of colors of 16 bits. Pillow, whose mode is RGB, keeps the upper 8 bits."""
Ground = Literal["white", "black", "clear"]


class PixelRules(NamedTuple):
    """How stored samples become 8-bit RGB.

    Attributes:
        decoding: Version of decoding, 1 or 2.
        bits: Bits of the largest sample in 16-bit grey images; cameras and X-rays often use 12.
    """

    decoding: int = DECODING
    bits: int = BITS


PLAIN = PixelRules()


def rgb(image: Image.Image, rules: PixelRules = PLAIN) -> Image.Image:
    """Converts a decoded image to RGB.

    Transparent images are laid on white, or on black if their visible pixels are so light that
    they would be blank on white. Each image is looked at on its own: one ground for a whole data
    set would have to be grey as soon as it holds light and dark drawings, which changes all of its
    images, and the images of tomorrow may be lighter than those of the data set.

    Args:
        image: Any mode, loaded.
        rules: The version and the range of 16-bit samples.

    Returns:
        The image in mode RGB.
    """
    if image.mode in _SIXTEEN_BIT:
        return _eight_bits(image, rules.bits).convert("RGB")
    if not is_transparent(image):
        return image.convert("RGB")
    image = image.convert("RGBA")
    color = 0 if rules.decoding > 1 and ground(image) == "black" else 255
    below = Image.new("RGBA", image.size, (color, color, color, 255))
    return Image.alpha_composite(below, image).convert("RGB")


def is_transparent(image: Image.Image) -> bool:
    """Whether an image has an alpha channel or a transparent color."""
    return image.mode in _TRANSPARENT or "transparency" in image.info


def ground(image: Image.Image) -> Ground | None:
    """The ground that a transparent image is laid on.

    Args:
        image: RGBA.

    Returns:
        "white" or "black"; "clear" if no pixel is visible on any ground; None if all pixels are
        opaque.
    """
    if image.getchannel("A").getextrema() == (255, 255):
        return None
    samples = np.asarray(image)
    alpha = samples[..., 3]
    from_white = 255 - samples[..., :3].min(2)
    visible = int(alpha.sum(dtype=np.int64))
    distance = int(np.einsum("ij,ij->", from_white, alpha, dtype=np.int64))
    if not visible:
        return "clear"
    return "black" if distance < VISIBLE * visible else "white"


def peak(image: Image.Image) -> int | None:
    """The largest sample of a 16-bit grey image, from 0 to 65,535; None for other images."""
    return int(np.asarray(image).max()) if image.mode in _SIXTEEN_BIT else None


def has_wide_colors(image: ImageFile.ImageFile) -> bool:
    """Whether a file, not yet loaded, stores colors of 16 bits: Pillow keeps their upper 8 bits."""
    stored = " ".join(str(tile[3]) for tile in image.tile)
    return image.mode in ("RGB", "RGBA") and ";16" in stored


def _eight_bits(image: Image.Image, bits: int) -> Image.Image:
    """16-bit grey to 8 bits. Pillow's own convert("L") clips at 255 and gives a white image."""
    samples = np.asarray(image).astype(np.int64)
    return Image.fromarray(np.clip(samples * 255 // (2**bits - 1), 0, 255).astype(np.uint8))
