"""Removes the metadata of JPEG, PNG and WebP files without touching their pixels."""

import re
import struct
import zlib
from collections.abc import Callable, Iterator

JPEG, PNG, WEBP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"WEBP"
_ICC, _JFIF = b"ICC_PROFILE\0", b"JFIF\0"
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""Bytes of 255 in compressed data are followed by 0, by a restart marker, or by a fill byte."""
_PNG_CHUNKS = frozenset(
    b"IHDR PLTE tRNS IDAT IEND gAMA cHRM sRGB iCCP cICP sBIT bKGD pHYs".split()
)  # fmt: skip
_WEBP_FLAGS = 0x08 | 0x04
"""The bits of EXIF and XMP in the header."""
_WEBP_PIXELS = frozenset([b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"])


def kind_of(content: bytes) -> str | None:
    """The format of a file by its first bytes: "JPEG", "PNG", "WEBP" or None."""
    if content.startswith(JPEG):
        return "JPEG"
    if content.startswith(PNG):
        return "PNG"
    return "WEBP" if content[:4] == b"RIFF" and content[8:12] == WEBP else None


def without_metadata(content: bytes) -> bytes:
    """The file without EXIF, XMP, IPTC, comments, previews, dates and trailing data.

    Color profiles stay, and so does everything that the pixels depend on.

    Args:
        content: A whole JPEG, PNG or WebP file that was decoded before.

    Returns:
        A file with the same pixels.

    Raises:
        ValueError: It is of another format, or its parts do not follow one another.
    """
    kind = kind_of(content)
    if kind is None:
        raise ValueError("not a JPEG, PNG or WebP file")
    return b"".join(_PARTS[kind](content))


def _jpeg_parts(content: bytes) -> Iterator[bytes]:
    yield content[:2]
    place = 2
    while place + 4 <= len(content):
        marker = content[place + 1]
        if content[place] != 0xFF:
            raise ValueError("no marker where a JPEG segment should begin")
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker == 0xD9:
            break
        end = place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        if marker == 0xDA:  # compressed data follows
            found = _NEXT_MARKER.search(content, end)
            end = len(content) if found is None else found.start()
        yield _jpeg_segment(marker, content[place:end])
        place = end
    yield b"\xff\xd9"


def _jpeg_segment(marker: int, segment: bytes) -> bytes:
    """The segment without metadata; empty if it is nothing else."""
    body = segment[4:]
    if marker == 0xE0:
        # Its last two bytes are the size of a preview, which follows.
        head = b"\xff\xe0\x00\x10"
        return head + body[:12] + b"\0\0" if body.startswith(_JFIF) and len(body) >= 14 else b""
    is_profile = marker == 0xE2 and body.startswith(_ICC)
    is_metadata = 0xE1 <= marker <= 0xEF or marker == 0xFE
    # Adobe's APP14 defines the color space.
    return b"" if is_metadata and not is_profile and marker != 0xEE else segment


def _png_parts(content: bytes) -> Iterator[bytes]:
    yield PNG
    place = len(PNG)
    while place + 12 <= len(content):
        (length,), name = struct.unpack_from(">I", content, place), content[place + 4 : place + 8]
        end = place + 12 + length
        if name in _PNG_CHUNKS:
            yield content[place:end]
        if name == b"IEND":
            return
        place = end
    yield struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))


def _webp_parts(content: bytes) -> Iterator[bytes]:
    chunks = bytearray()
    place = 12
    while place + 8 <= len(content):
        name, length = struct.unpack_from("<4sI", content, place)
        end = place + 8 + length + length % 2
        if name in _WEBP_PIXELS:
            chunk = bytearray(content[place:end])
            if name == b"VP8X":
                chunk[8] &= ~_WEBP_FLAGS
            chunks += chunk
        place = end
    yield b"RIFF" + struct.pack("<I", len(chunks) + 4) + WEBP + chunks


_PARTS: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "JPEG": _jpeg_parts,
    "PNG": _png_parts,
    "WEBP": _webp_parts,
}
