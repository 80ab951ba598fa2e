"""Bytes to upright RGB pixels, bounded."""

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
"""Formats that are decoded. Others (EPS runs Ghostscript, PSD, …) are refused unopened."""

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

    EXIF orientation is applied, the first frame of an animation is taken, transparency is laid on
    white, 16-bit samples are scaled to 8 bits.

    Args:
        path: The file.
        min_side: px. A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as its shorter
            side keeps this many pixels; 0 for full size.
        limits: What is too large.

    Returns:
        An RGB image, upright.

    Raises:
        UnreadableImage: The file is missing, empty, too large, no image, or broken.
    """
    return decode(read_content(path, limits=limits), path, min_side=min_side, limits=limits)


def read_content(path: Path, *, limits: DecodeLimits = _DEFAULT) -> bytes:
    """The bytes of one file.

    Args:
        path: The file.
        limits: What is too large.

    Returns:
        The content.

    Raises:
        UnreadableImage: The file is missing, too large, or a pipe or the like.
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
    raise UnreadableImage(
        "is not a regular file.", where=path
    )  # to open a pipe would wait for ever


def decode(
    content: bytes, where: Path, *, min_side: int = 0, limits: DecodeLimits = _DEFAULT
) -> Image.Image:
    """Decodes the bytes of one file; see `read_image`.

    Args:
        content: The file's bytes.
        where: Its path, for the message.
        min_side: px, or 0.
        limits: What is too large.

    Returns:
        An RGB image, upright.

    Raises:
        UnreadableImage: The bytes are empty, no image, too many pixels, or broken.
    """
    image = _open_header(content, where, limits)
    try:
        if min_side:
            _request_draft(image, min_side)
        upright = _upright_rgb(image)
    except Exception as error:
        raise UnreadableImage("image is truncated or broken.", where=where) from error
    upright.info = {}  # its EXIF would turn it once more
    return upright


class Preview(NamedTuple):
    """What one decoding of an image told.

    Attributes:
        width: px, upright.
        height: px, upright.
        mode: Of the samples as they are stored: "RGB", "L", "P", "I;16", "CMYK", …
        orientation: EXIF's, 1 to 8; 1 where it says none. It was applied.
        pixels: 16 bytes that stand for the picture. Lossless files of the same upright RGB pixels
            share it, whatever their format. A JPEG's stands for its compressed picture and its
            orientation, so that copies with other metadata share it: decoding every JPEG at full
            size would cost more than all other checks.
        picture: YCbCr, upright; at a fraction of the size where a JPEG allows it.
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
    """The size, the kind and a small picture of an image that decodes to its last byte.

    A JPEG is decoded at up to 1/8 of its size: a broken stream fails at any scale, much sooner.

    Args:
        content: The file's bytes.
        where: Its path, for the message.
        min_side: px that the picture's shorter side keeps where the image has them.
        limits: What is too large.

    Returns:
        What was seen.

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
        # Pillow strikes it out of a TIFF while loading; a PNG's may stand behind its pixels.
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
    """YCbCr where the file is known to hold it: half the work of turning it into RGB and back."""
    known = "jfif" in image.info or image.info.get("adobe_transform") == 1
    return "YCbCr" if known else "RGB"


def _rgb_pixels(image: Image.Image) -> bytes:
    """Digest of RGB samples, in strips: a second copy of a large image would fill the memory."""
    state = hashlib.blake2b(repr(image.size).encode(), digest_size=DIGEST_BYTES)
    rows = max(_STRIP // image.width, 1)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        state.update(image.crop((0, top, image.width, bottom)).tobytes())
    return state.digest()


_STRIP = 1 << 20
"""px."""


def _jpeg_pixels(content: bytes, orientation: int) -> bytes:
    """Digest of a JPEG without its metadata: what follows the headers, and the tables in them."""
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
"""APP0 to APP15 and comments, without Adobe's APP14, which says what the colours mean."""


def _open_header(content: bytes, where: Path, limits: DecodeLimits) -> ImageFile.ImageFile:
    """Reads the header only, and refuses what is too large to unpack or of no known range."""
    if not content:
        raise UnreadableImage("file is empty (0 bytes).", where=where)
    try:
        with _without_pillow_warnings():
            image = Image.open(io.BytesIO(content), formats=_formats())
    except Exception as error:  # Pillow's decoders raise whatever they meet in hostile bytes
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
    """Reads headers without Pillow's warnings (odd EXIF is harmless) and bound (ours is a setting).

    Both are kept by Python and Pillow for the whole process, so one thread at a time changes them;
    pixels are never unpacked inside.
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
    """EXIF's orientation, 1 to 8; 1 where it is missing or odd."""
    if image.format in ("JPEG", "MPO") and image.info.keys().isdisjoint(("exif", "xmp")):
        return 1  # said by the header already; asking costs as much as decoding a small image
    try:
        with _without_pillow_warnings():
            value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # odd EXIF says nothing about the pixels: the photo stands as it is stored
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
    """Those of `FORMATS` that this build of Pillow knows: AVIF is missing from some.

    `Image.init()` would import the other forty kinds too, in every process.
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
    # Pillow turns TIFFs itself while loading them.
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
