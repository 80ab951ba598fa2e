"""One look at one file: all that later checks judge by, from a single decoding."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from acclimate.data.images.decode import decode_preview, read_content
from acclimate.data.images.decode_limits import DecodeLimits
from acclimate.errors import UnreadableImage
from acclimate.files import digest_bytes

THUMBNAIL = 16
"""px: side of the small square picture that near-duplicates are found by."""
_MEASURED_SIDE = 128
"""px: the shorter side that sharpness is measured at. A blur that vanishes there vanishes in a
network's input too."""


@dataclass(frozen=True, slots=True)
class ImageStats:
    """What one look at a file told; the fields are columns of the table.

    Attributes:
        digest: 16 bytes of the file.
        width: px, upright.
        height: px, upright.
        mode: Of the samples as stored.
        orientation: EXIF's, 1 to 8, which was applied; 1 where it says none.
        pixels: 16 bytes of the picture.
        brightness: Mean luminance, in [0, 1].
        contrast: Standard deviation of the luminance, in [0, 0.5].
        sharpness: Curvature against slope, from 0; see `sharpness`.
        entropy: Of the luminance's 256 levels, in bits, [0, 8]; told, and judged by nothing.
        color: Mean distance from grey, in [0, 1].
        thumbnail: uint8 luminance, 16 x 16, squeezed to a square.
        reason: Why the file cannot be used, or None.
    """

    digest: bytes | None = None
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    orientation: int | None = None
    pixels: bytes | None = None
    brightness: float | None = None
    contrast: float | None = None
    sharpness: float | None = None
    entropy: float | None = None
    color: float | None = None
    thumbnail: bytes | None = None
    reason: str | None = None


def measure_image(path: Path, limits: DecodeLimits, *, with_quality: bool = True) -> ImageStats:
    """Reads and decodes one file; a bad one is an answer, not an error.

    Args:
        path: The file.
        limits: What is too large.
        with_quality: Whether brightness, contrast, sharpness, entropy and color are measured.
            A JPEG is decoded smaller without them.

    Returns:
        What was seen.
    """
    try:
        content = read_content(path, limits=limits)
    except UnreadableImage as error:
        return ImageStats(reason=error.message.rstrip("."))
    digest = bytes.fromhex(digest_bytes(content))
    try:
        seen = decode_preview(
            content, path, min_side=_MEASURED_SIDE if with_quality else 2 * THUMBNAIL, limits=limits
        )
    except UnreadableImage as error:
        return ImageStats(digest=digest, reason=error.message.rstrip("."))
    small = np.asarray(
        seen.picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS, reducing_gap=2.0)
    )
    found = ImageStats(
        digest=digest,
        width=seen.width,
        height=seen.height,
        mode=seen.mode,
        orientation=seen.orientation,
        pixels=seen.pixels,
        thumbnail=small[..., 0].tobytes(),
    )
    return (
        _with_quality(found, seen.picture.getchannel(0), small[..., 1:]) if with_quality else found
    )


def _with_quality(
    found: ImageStats, luminance: Image.Image, colors: NDArray[np.uint8]
) -> ImageStats:
    small = _downscaled(luminance)
    brightness, contrast, entropy = _histogram_stats(small.histogram())
    return replace(
        found,
        brightness=brightness,
        contrast=contrast,
        sharpness=sharpness(np.asarray(small)),
        entropy=entropy,
        color=float(np.abs(colors.astype(np.int16) - 128).mean()) / 127,
    )


def _downscaled(image: Image.Image) -> Image.Image:
    scale = _MEASURED_SIDE / min(image.size)
    if scale >= 1:
        return image
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Image.Resampling.BOX)


_LEVELS = np.arange(256) / 255


def _histogram_stats(histogram: list[int]) -> tuple[float, float, float]:
    """Mean, standard deviation and entropy of the levels."""
    share = np.asarray(histogram, np.float64)
    share /= share.sum()
    mean = float(share @ _LEVELS)
    deviation = float(share @ (_LEVELS - mean) ** 2) ** 0.5
    some = share[share > 0]
    return mean, deviation, float(-(some @ np.log2(some)))


def sharpness(luminance: NDArray[np.uint8]) -> float:
    """How fine the structure is: the curvature of the luminance against its slope.

    The ratio of two filters' root mean squares does not depend on contrast, and falls with every
    blur. At 128 px, 98 of 100 photos give 0.6 and more, and the same photos blurred by a
    Gaussian whose sigma is 1 % of the shorter side 0.41 and less.

    Args:
        luminance: uint8, (H, W).

    Returns:
        From 0 to about 2.5; 0 where the image is flat.
    """
    if min(luminance.shape) < 3:
        return 0.0
    a = luminance.astype(np.int16)
    middle = a[1:-1, 1:-1]
    curvature = 4 * middle - a[:-2, 1:-1] - a[2:, 1:-1] - a[1:-1, :-2] - a[1:-1, 2:]
    across, down = a[1:-1, 2:] - a[1:-1, :-2], a[2:, 1:-1] - a[:-2, 1:-1]
    slope = _mean_square(across) + _mean_square(down)
    return float((_mean_square(curvature) / (slope + 1)) ** 0.5)


def _mean_square(samples: NDArray[np.int16]) -> float:
    flat = samples.astype(np.float32).ravel()
    return float(flat @ flat) / flat.size
