"""Decodes bytes to upright RGB images, within limits."""

import hashlib
import io
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile

from acclimate.data.images.decode_limits import DecodeLimits, PlainDecodeLimits
from acclimate.errors import DataError, UnreadableImage
from acclimate.files import DIGEST_BYTES, read_bounded

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
"""Formats that are decoded. Others are refused unopened (EPS, for one, runs Ghostscript)."""

IMAGE_SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".avif",
    ]
)

_DEFAULT = PlainDecodeLimits()
_ORIENTATION = 0x0112
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def read_image(path: Path, *, min_side: int = 0, limits: DecodeLimits = _DEFAULT) -> Image.Image:
    """Decodes one file.

    EXIF orientation is applied, the first frame of an animation is used, transparency is laid on
    white, and 16-bit samples are scaled to 8 bits.

    Args:
        path: The file.
        min_side: px. A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as its shorter
            side keeps this many pixels; 0 for full size.
        limits: The largest file and image.

    Returns:
        An RGB image, upright.

    Raises:
        UnreadableImage: The file is missing, empty, too large, broken or not an image.
    """
    return decode(read_content(path, limits=limits), path, min_side=min_side, limits=limits)


def read_content(path: Path, *, limits: DecodeLimits = _DEFAULT) -> bytes:
    """Reads the bytes of one file.

    Args:
        path: The file.
        limits: The largest file and image.

    Returns:
        The content.

    Raises:
        UnreadableImage: The file is missing, too large or not a regular file.
    """
    try:
        kind = path.stat().st_mode
        if stat.S_ISREG(kind) or stat.S_ISDIR(kind):
            return read_bounded(path, limits.max_file_mb << 20)
    except OSError as error:
        raise UnreadableImage(f"cannot be read ({error.strerror}).", where=path) from error
    except DataError as error:
        raise UnreadableImage(
            f"file is larger than {limits.max_file_mb} MB.", where=path
        ) from error
    raise UnreadableImage("is not a regular file.", where=path)  # opening a pipe would block


def decode(
    content: bytes, where: Path, *, min_side: int = 0, limits: DecodeLimits = _DEFAULT
) -> Image.Image:
    """Decodes the bytes of one file; see `read_image`.

    Args:
        content: The file's bytes.
        where: Its path, for the message.
        min_side: px, or 0.
        limits: The largest file and image.

    Returns:
        An RGB image, upright.

    Raises:
        UnreadableImage: The bytes are empty, broken, not an image or too large an image.
    """
    image = _open_header(content, where, limits)
    try:
        if min_side:
            _request_draft(image, min_side)
        upright = _upright_rgb(image)
    except Exception as error:
        raise UnreadableImage("image is truncated or broken.", where=where) from error
    upright.info = {}  # its EXIF orientation must not be applied again
    return upright


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
    """

    width: int
    height: int
    mode: str
    orientation: int
    pixels: bytes
    picture: Image.Image


def decode_preview(
    content: bytes, where: Path, *, min_side: int = 32, limits: DecodeLimits = _DEFAULT
) -> Preview:
    """Decodes an image to its last byte, and returns facts about it and a small copy.

    A JPEG is decoded at down to 1/8 of its size: a broken stream fails at any scale, and faster.

    Args:
        content: The file's bytes.
        where: Its path, for the message.
        min_side: px: the smallest shorter side of the small copy, unless the image is smaller.
        limits: The largest file and image.

    Returns:
        The facts and the small copy.

    Raises:
        UnreadableImage: As `decode`.
    """
    image = _open_header(content, where, limits)
    (width, height), mode = image.size, image.mode
    try:
        if image.format in ("JPEG", "MPO"):
            orientation = _orientation(image)
            _request_draft(image, min_side, _luminance_mode(image))
            picture = _upright(image)
            if orientation >= 5:
                width, height = height, width
            if picture.mode != "YCbCr":
                picture = _rgb(picture).convert("YCbCr")
            return Preview(
                width, height, mode, orientation, _jpeg_pixels(content, orientation), picture
            )
        # Pillow removes it from a TIFF while loading; in a PNG it may come after the pixels.
        orientation = _orientation(image) if image.format == "TIFF" else 0
        upright = _upright_rgb(image)
        orientation = orientation or _orientation(image)
        smaller = upright.reduce(max(min(upright.size) // min_side, 1))
        return Preview(
            *upright.size, mode, orientation, _rgb_pixels(upright), smaller.convert("YCbCr")
        )
    except Exception as error:
        raise UnreadableImage("image is truncated or broken.", where=where) from error


def _luminance_mode(image: Image.Image) -> str:
    """YCbCr if the file is known to use it, which saves the conversion to RGB and back."""
    known = "jfif" in image.info or image.info.get("adobe_transform") == 1
    return "YCbCr" if known else "RGB"


def _rgb_pixels(image: Image.Image) -> bytes:
    """Digest of RGB samples, in strips, so that a large image is not copied in memory."""
    state = hashlib.blake2b(repr(image.size).encode(), digest_size=DIGEST_BYTES)
    rows = max(_STRIP // image.width, 1)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        state.update(image.crop((0, top, image.width, bottom)).tobytes())
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


def _open_header(content: bytes, where: Path, limits: DecodeLimits) -> ImageFile.ImageFile:
    """Reads the header only; refuses images that are too large or have samples of unknown range."""
    if not content:
        raise UnreadableImage("file is empty (0 bytes).", where=where)
    try:
        with _without_pillow_warnings():
            image = Image.open(io.BytesIO(content), formats=_formats())
    except Exception as error:  # Pillow's decoders raise errors of many types on hostile bytes
        raise UnreadableImage("file is not an image.", where=where) from error
    pixels = image.width * image.height
    if pixels > limits.max_megapixels * 1e6:
        raise _too_large(pixels, where, limits)
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        kind = "floating-point" if image.mode == "F" else "32-bit"
        raise UnreadableImage(f"image has {kind} samples, whose range is not known.", where=where)
    return image


_HEADERS = threading.Lock()


@contextmanager
def _without_pillow_warnings() -> Iterator[None]:
    """Disables Pillow's warnings and size limit while a header is read; ours is a setting.

    Both are global to the process, so only one thread at a time changes them, and no pixels are
    decoded meanwhile.
    """
    with _HEADERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bound, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = bound


def _too_large(pixels: int, where: Path, limits: DecodeLimits) -> UnreadableImage:
    millions = pixels / 1e6
    shown, limit = f"{millions:,.0f}", limits.max_megapixels
    if float(shown.replace(",", "")) <= limit:
        shown = f"{millions:,.3f}"
    return UnreadableImage(
        f"image has {shown} megapixels, over the limit of {limit:g}.", where=where
    )


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 if it is missing or invalid."""
    if image.format in ("JPEG", "MPO") and image.info.keys().isdisjoint(("exif", "xmp")):
        return 1  # known from the header; parsing EXIF takes as long as decoding a small image
    try:
        with _without_pillow_warnings():
            value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # invalid EXIF: use the image as it is stored
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@cache
def _formats() -> tuple[str, ...]:
    """The formats of `FORMATS` that this build of Pillow supports; some have no AVIF.

    `Image.init()` would import forty more plugins in every process.
    """
    Image.preinit()
    for name in ("WebP", "Tiff", "Avif"):
        with suppress(ImportError):
            import_module(f"PIL.{name}ImagePlugin")
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _request_draft(image: ImageFile.ImageFile, min_side: int, mode: str = "RGB") -> None:
    """Lets libjpeg decode at a fraction of the size: up to 8 times less work."""
    scale = max(min(image.size) / min_side, 1.0)
    if image.format in ("JPEG", "MPO"):
        width, height = image.size
        image.draft(mode, (int(width / scale), int(height / scale)))


def _upright_rgb(image_file: ImageFile.ImageFile) -> Image.Image:
    return _rgb(_upright(image_file))


def _upright(image_file: ImageFile.ImageFile) -> Image.Image:
    image_file.seek(0)
    image_file.load()
    image: Image.Image = image_file
    # Pillow rotates TIFFs itself while loading them.
    transpose = None if image_file.format == "TIFF" else _TRANSPOSES.get(_orientation(image_file))
    return image if transpose is None else image.transpose(transpose)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT:
        return _eight_bits(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey to 8 bits. Pillow's own convert("L") clips at 255 and gives a white image."""
    samples = np.asarray(image).astype(np.int64)
    return Image.fromarray(np.clip(samples // 257, 0, 255).astype(np.uint8))
