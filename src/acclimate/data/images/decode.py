"""Decodes bytes to upright RGB images, within limits."""

import io
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path

from PIL import Image, ImageFile

from acclimate.data.images.decode_limits import DecodeLimits, PlainDecodeLimits
from acclimate.data.images.samples import PLAIN, PixelRules, rgb
from acclimate.errors import DataError, UnreadableImage
from acclimate.files import read_bounded

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "HEIF")
"""Formats that are decoded. Others are refused unopened (EPS, for one, runs Ghostscript)."""

SUFFIXES = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".png": "PNG",
    ".webp": "WEBP", ".bmp": "BMP", ".gif": "GIF", ".tif": "TIFF", ".tiff": "TIFF",
    ".ppm": "PPM", ".pgm": "PPM", ".pbm": "PPM", ".avif": "AVIF", ".heic": "HEIF", ".heif": "HEIF",
}  # fmt: skip
"""The formats that suffixes promise. The content decides how a file is decoded."""
IMAGE_SUFFIXES = frozenset([*SUFFIXES, ".dcm"])
"""Suffixes of images; .dcm is refused with a sentence that says what to do."""
_HEAD = 132
"""Bytes that tell a file's format."""

_DRAFT_MARGIN = 2
"""Times the needed side that a JPEG's shorter side keeps when it is decoded at a fraction. On 150
photos of flowers, pixels then differ by 0.7 levels on average from those of full size, in place of
3.0 at the needed side itself; photos of 12 megapixels take a quarter of the time."""
_DEFAULT = PlainDecodeLimits()
_ORIENTATION = 0x0112
_BMP_HEADERS = frozenset(size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124))
_HEIC = frozenset(b"ftyp" + brand for brand in (b"heic", b"heix", b"hevc", b"hevx", b"mif1"))


def is_image(path: Path) -> bool:
    """Whether a file is an image by its suffix, or else by its first bytes.

    Args:
        path: A file.

    Returns:
        True for damaged images too; False for what cannot be read.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would block
            return False
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except (OSError, ValueError):
        return False
    if head[128:] == b"DICM" or head[4:12] in _HEIC:
        return True
    # Pillow takes any P followed by a digit for a PPM, and any BM for a BMP.
    if head[:1] == b"P" and not head[2:3].isspace():
        return False
    if head[:2] == b"BM" and head[14:18] not in _BMP_HEADERS:
        return False
    accepts = [Image.OPEN[name][1] for name in _formats()]
    return any(accept(head) for accept in accepts if accept is not None)


def read_image(
    path: Path,
    *,
    min_side: int = 0,
    limits: DecodeLimits = _DEFAULT,
    rules: PixelRules = PLAIN,
) -> Image.Image:
    """Decodes one file.

    EXIF orientation is applied, the first frame or page is used, transparency is laid on white or
    black (see `rgb`), and 16-bit samples are scaled to 8 bits.

    Args:
        path: The file.
        min_side: px: the shorter side that is needed. A large JPEG may be decoded at 1/2, 1/4 or
            1/8 of its size, which is faster, with slightly other pixels; 0 for full size.
        limits: The largest file and image.
        rules: How samples become RGB.

    Returns:
        An RGB image, upright.

    Raises:
        UnreadableImage: The file is missing, empty, too large, broken or not an image.
    """
    content = read_content(path, limits=limits)
    return decode(content, path, min_side=min_side, limits=limits, rules=rules)


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
    content: bytes,
    where: Path,
    *,
    min_side: int = 0,
    limits: DecodeLimits = _DEFAULT,
    rules: PixelRules = PLAIN,
) -> Image.Image:
    """Decodes the bytes of one file; see `read_image`.

    Args:
        content: The file's bytes.
        where: Its path, for the message.
        min_side: px, or 0.
        limits: The largest file and image.
        rules: How samples become RGB.

    Returns:
        An RGB image, upright.

    Raises:
        UnreadableImage: The bytes are empty, broken, not an image or too large an image.
    """
    image = open_header(content, where, limits)
    try:
        if min_side:
            _request_draft(image, min_side, rules)
        found = rgb(upright(image), rules)
    except Exception as error:
        raise UnreadableImage("image is truncated or broken.", where=where) from error
    found.info = {}  # its EXIF orientation must not be applied again
    return found


def open_header(content: bytes, where: Path, limits: DecodeLimits) -> ImageFile.ImageFile:
    """Reads the header only; refuses images that are too large or have samples of unknown range.

    Args:
        content: The file's bytes.
        where: Its path, for the message.
        limits: The largest file and image.

    Returns:
        The image, whose pixels are not decoded yet.

    Raises:
        UnreadableImage: The bytes are empty, not an image or too large an image.
    """
    if not content:
        raise UnreadableImage("file is empty (0 bytes).", where=where)
    if content[128:132] == b"DICM":
        raise UnreadableImage(
            "is a DICOM file: convert it to 16-bit PNG, such as by dcmj2pnm +on2 of DCMTK.",
            where=where,
        )
    if content[4:12] in _HEIC and "HEIF" not in _formats():
        raise UnreadableImage(
            "is a HEIC image: install the extra by pip install 'acclimate[heic]', or convert it "
            "to JPEG.",
            where=where,
        )
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


def orientation_of(image: Image.Image) -> int:
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
    """The formats of `FORMATS` that are supported here: some builds have no AVIF; HEIC is an extra.

    `Image.init()` would import forty more plugins in every process.
    """
    Image.preinit()
    for name in ("WebP", "Tiff", "Avif"):
        with suppress(ImportError):
            import_module(f"PIL.{name}ImagePlugin")
    with suppress(ImportError):
        import_module("pi_heif").register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _request_draft(image: ImageFile.ImageFile, min_side: int, rules: PixelRules) -> None:
    """Lets libjpeg decode at a fraction of the size if resizing then gives nearly the same."""
    if rules.decoding == 1:
        request_draft(image, min_side)
        return
    width, height = image.size
    # Other sizes are rounded up, which shifts pixels: up to 31 levels in place of 3.
    fitting = [s for s in (8, 4, 2) if width % s == height % s == 0]
    scale = next((s for s in fitting if min(width, height) >= s * _DRAFT_MARGIN * min_side), 1)
    if scale > 1 and image.format in ("JPEG", "MPO"):
        image.draft("RGB", (width // scale, height // scale))


def request_draft(image: ImageFile.ImageFile, min_side: int, mode: str = "RGB") -> None:
    """Lets libjpeg decode at a fraction of the size: up to 8 times less work."""
    scale = max(min(image.size) / min_side, 1.0)
    if image.format in ("JPEG", "MPO"):
        width, height = image.size
        image.draft(mode, (int(width / scale), int(height / scale)))


def upright(image_file: ImageFile.ImageFile) -> Image.Image:
    """Decodes the first frame in its stored mode, and applies the EXIF orientation."""
    image_file.seek(0)
    image_file.load()
    return orient(image_file)


def orient(image: Image.Image) -> Image.Image:
    """A loaded image, upright by its EXIF orientation; the same object if it is upright already."""
    # Pillow rotates TIFFs itself while loading them.
    transpose = None if image.format == "TIFF" else _TRANSPOSES.get(orientation_of(image))
    return image if transpose is None else image.transpose(transpose)
