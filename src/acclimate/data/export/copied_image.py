"""The content of one copied image: as it is if only its metadata has to go, or encoded again."""

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image, JpegImagePlugin

from acclimate.data.export.strip_metadata import kind_of, without_metadata
from acclimate.data.images.decode import decode, open_header, read_content, upright
from acclimate.data.images.decode_limits import DecodeLimits
from acclimate.data.images.preview import decode_preview
from acclimate.data.images.samples import PixelRules

_HEAD = 32
"""Bytes that tell a file's format."""
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
_LOSSY = (b"ftypavif", b"ftypavis", b"ftyphei", b"ftypmif1", b"ftyphev")
"""AVIF and HEIC, which become JPEG: as PNG they would be ten times as large."""
_QUALITIES = (95, 90, 80, 70)
"""Tried in this order until the copy is not larger than twice its original."""
_COMPACT = ("1", "L", "P", "LA", "RGBA", "I;16")
"""Modes that PNG stores as they are; all others become RGB."""


def copied_suffix(path: Path, *, lossless: bool) -> str:
    """The suffix of a copy, by the content of the file."""
    if lossless:
        return ".png"
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError:  # reported when the whole file is read
        head = b""
    return _SUFFIXES[_copied_kind(head)]


def copied_image(path: Path, *, lossless: bool, limits: DecodeLimits, rules: PixelRules) -> bytes:
    """The content of a copy.

    Args:
        path: The image.
        lossless: Write PNG with the pixels that training sees.
        limits: The largest file and image.
        rules: How samples become RGB, for a lossless copy.

    Returns:
        The content of a file with the suffix of `copied_suffix`.

    Raises:
        UnreadableImage: The file was damaged after cleaning.
    """
    content = read_content(path, limits=limits)
    if lossless:
        return _as_png(decode(content, path, limits=limits, rules=rules))
    seen = decode_preview(content, path, limits=limits)  # to its last byte
    kind = kind_of(content)
    if kind is not None and seen.orientation == 1 and not seen.mode.startswith("CMYK"):
        with suppress(ValueError):  # stray bytes between its parts, which decoders skip
            return without_metadata(content)
    if _copied_kind(content) == "PNG":
        stored = upright(open_header(content, path, limits))
        return _as_png(stored if stored.mode in _COMPACT else stored.convert("RGB"))
    image = decode(content, path, limits=limits)
    if kind == "JPEG" and seen.mode in ("RGB", "L"):
        return _as_same_jpeg(image.convert(seen.mode), open_header(content, path, limits))
    if kind == "WEBP":
        stored = upright(open_header(content, path, limits))
        return _within(content, "WEBP", stored, lossless=b"VP8L" in content[:4096])
    return _within(content, "JPEG", image, subsampling=0)


def _copied_kind(head: bytes) -> str:
    return kind_of(head) or ("JPEG" if head[4:].startswith(_LOSSY) else "PNG")


def _as_same_jpeg(image: Image.Image, stored: Image.Image) -> bytes:
    """A turned JPEG with the quantization of the stored one: about as large, and as good."""
    assert isinstance(stored, JpegImagePlugin.JpegImageFile)
    sampling = JpegImagePlugin.get_sampling(stored)
    return _encoded(
        image,
        "JPEG",
        qtables=stored.quantization,
        # Halved in one direction only, it would have to be turned too.
        subsampling=sampling if sampling in (0, 2) else 0,
        progressive=bool(stored.info.get("progressive")),
        optimize=True,
        icc_profile=stored.info.get("icc_profile"),
    )


def _as_png(image: Image.Image) -> bytes:
    return _encoded(image, "PNG", compress_level=4)


def _within(content: bytes, kind: str, image: Image.Image, **options: Any) -> bytes:  # noqa: ANN401
    """The best quality that is not larger than twice the original."""
    for quality in _QUALITIES:
        found = _encoded(image, kind, quality=quality, **options)
        if len(found) <= 2 * len(content):
            break
    return found


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:  # noqa: ANN401
    image.info = {k: v for k, v in image.info.items() if k == "transparency"}
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
