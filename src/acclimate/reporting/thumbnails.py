"""Small pictures that stand in the page itself."""

import base64
import io
from pathlib import Path

from PIL import Image

from acclimate.data.images.decode import read_image
from acclimate.errors import UnreadableImage

SIDE = 96
"""px of the longer side: some 3 kB each, so that hundreds make a page of a megabyte."""


def thumbnail(path: Path) -> str | None:
    """A small JPEG as a data URI; None where the file is gone since it was judged."""
    try:
        image = read_image(path, at_least=SIDE)
    except UnreadableImage:
        return None
    return data_uri(image)


def data_uri(image: Image.Image) -> str:
    """A picture as a small JPEG that stands in the page.

    Args:
        image: RGB; made smaller in place.

    Returns:
        A data URI.
    """
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
