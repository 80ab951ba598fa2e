"""Facts about an image file and a small copy of it, from one decoding."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile

from acclimate.data.images.decode import open_header, orientation_of, request_draft, upright
from acclimate.data.images.decode_limits import DecodeLimits, PlainDecodeLimits
from acclimate.data.images.samples import (
    PLAIN,
    WIDE_COLORS,
    Ground,
    PixelRules,
    ground,
    has_wide_colors,
    is_transparent,
    peak,
    rgb,
)
from acclimate.errors import UnreadableImage
from acclimate.files import DIGEST_BYTES

_DEFAULT = PlainDecodeLimits()


class Preview(NamedTuple):
    """Facts about an image and a small copy of it, from one decoding.

    Attributes:
        width: px, upright.
        height: px, upright.
        mode: Pillow's mode of the stored samples: "RGB", "L", "P", "I;16", "CMYK", …
        orientation: EXIF orientation, 1 to 8, already applied; 1 if there is none.
        pixels: Digest of the pixels, 16 bytes. Lossless files with the same upright RGB pixels
            share it, whatever their format. The digest of a JPEG is that of its compressed data
            and orientation, so that copies with other metadata share it: decoding every JPEG at
            full size would take longer than all other checks.
        picture: YCbCr, upright; a JPEG is decoded at a fraction of its size.
        peak: The largest sample of a 16-bit image, from 0 to 65,535; None for other images.
        ground: What a transparent image is laid on; None if it is opaque.
        pages: Whether a TIFF has more pages than the one that is used.
        format: One of `FORMATS`, by the content.
        animated: Whether a file other than a TIFF has more pictures than the one that is used.
    """

    width: int
    height: int
    mode: str
    orientation: int
    pixels: bytes
    picture: Image.Image
    peak: int | None = None
    ground: Ground | None = None
    pages: bool = False
    format: str | None = None
    animated: bool = False


def decode_preview(
    content: bytes,
    where: Path,
    *,
    min_side: int = 32,
    limits: DecodeLimits = _DEFAULT,
    rules: PixelRules = PLAIN,
) -> Preview:
    """Decodes an image to its last byte, and returns facts about it and a small copy.

    A JPEG is decoded at down to 1/8 of its size: a broken stream fails at any scale, and faster.

    Args:
        content: The file's bytes.
        where: Its path, for the message.
        min_side: px: the smallest shorter side of the small copy, unless the image is smaller.
        limits: The largest file and image.
        rules: How samples become RGB.

    Returns:
        The facts and the small copy.

    Raises:
        UnreadableImage: As `decode`.
    """
    image = open_header(content, where, limits)
    try:
        if image.format in ("JPEG", "MPO"):
            return _jpeg_preview(image, content, min_side)
        return _preview(image, min_side, rules)
    except Exception as error:
        raise UnreadableImage("image is truncated or broken.", where=where) from error


def _jpeg_preview(image: ImageFile.ImageFile, content: bytes, min_side: int) -> Preview:
    (width, height), mode = image.size, image.mode
    orientation = orientation_of(image)
    request_draft(image, min_side, _luminance_mode(image))
    picture = upright(image)
    if orientation >= 5:
        width, height = height, width
    if picture.mode != "YCbCr":
        picture = rgb(picture).convert("YCbCr")
    pixels = _jpeg_pixels(content, orientation)
    return Preview(width, height, mode, orientation, pixels, picture, format="JPEG")


def _preview(image: ImageFile.ImageFile, min_side: int, rules: PixelRules) -> Preview:
    mode = WIDE_COLORS if has_wide_colors(image) else image.mode
    several = bool(getattr(image, "is_animated", False))
    # Pillow removes it from a TIFF while loading; in a PNG it may come after the pixels.
    orientation = orientation_of(image) if image.format == "TIFF" else 0
    stored = upright(image)
    orientation = orientation or orientation_of(image)
    rgba = stored.convert("RGBA") if is_transparent(stored) else None
    below = None if rgba is None else ground(rgba)
    whole = rgb(stored, rules)
    # A white image and one without a visible pixel are not the same picture.
    alpha = None if rgba is None or below is None else rgba.getchannel("A")
    smaller = whole.reduce(max(min(whole.size) // min_side, 1))
    return Preview(
        *whole.size,
        mode,
        orientation,
        _rgb_pixels(whole, alpha),
        smaller.convert("YCbCr"),
        int(np.asarray(whole).max()) * 257 if mode == WIDE_COLORS else peak(stored),
        below,
        several and image.format == "TIFF",
        "BMP" if image.format == "DIB" else image.format,
        several and image.format != "TIFF",
    )


def _luminance_mode(image: Image.Image) -> str:
    """YCbCr if the file is known to use it, which saves the conversion to RGB and back."""
    known = "jfif" in image.info or image.info.get("adobe_transform") == 1
    return "YCbCr" if known else "RGB"


def _rgb_pixels(image: Image.Image, alpha: Image.Image | None) -> bytes:
    """Digest of the samples, in strips, so that a large image is not copied in memory."""
    state = hashlib.blake2b(repr(image.size).encode(), digest_size=DIGEST_BYTES)
    rows = max(_STRIP // image.width, 1)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        for part in (image, alpha) if alpha is not None else (image,):
            state.update(part.crop((0, top, image.width, bottom)).tobytes())
    return state.digest()


_STRIP = 1 << 20
"""px."""


def _jpeg_pixels(content: bytes, orientation: int) -> bytes:
    """Digest of a JPEG without its metadata: the compressed data and the decoding tables."""
    state, place = hashlib.blake2b(bytes([orientation]), digest_size=DIGEST_BYTES), 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xDA:
            break
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        end = place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        if marker not in _METADATA:
            state.update(content[place:end])
        place = end
    state.update(content[place:])
    return state.digest()


_METADATA = frozenset([*range(0xE0, 0xEE), 0xEF, 0xFE])
"""APP0 to APP15 and comments, without Adobe's APP14, which defines the color space."""
