"""Small images embedded in the report."""

import base64
import io
from pathlib import Path

from PIL import Image

from acclimate.data.images.decode import read_image
from acclimate.data.images.samples import BITS, PixelRules
from acclimate.errors import UnreadableImage

SIDE = 96
"""px of the longer side: about 3 kB each, so a page with hundreds stays near a megabyte."""


def thumbnail(path: Path, bits: int | None = None) -> str | None:
    """A small JPEG as a data URI; None if the file no longer exists or cannot be read.

    Args:
        path: The image.
        bits: Bits of the samples in 16-bit grey images; None for 16.

    Returns:
        A data URI.
    """
    try:
        image = read_image(path, min_side=SIDE, rules=PixelRules(bits=bits or BITS))
    except UnreadableImage:
        return None
    return data_uri(image)


def data_uri(image: Image.Image) -> str:
    """An image as a small JPEG in a data URI.

    Args:
        image: RGB; resized in place.

    Returns:
        A data URI.
    """
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
