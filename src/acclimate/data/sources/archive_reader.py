"""Unpacks ZIP and tar archives once, into the cache. Archives may come from untrusted sources.

Each name is checked before its file is written: paths that lead out of the folder, links and
devices are refused. Bytes are counted while they are unpacked, whatever sizes the archive states.
"""

import bz2
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from acclimate.data.images.decode import is_image
from acclimate.data.sources.folders import is_junk
from acclimate.data.sources.row import SPLIT_NAMES
from acclimate.data.sources.unpacked import (
    MIN_SIZE_LIMIT,
    file_limit,
    size_limit,
    stamp,
    unpacked_once,
)
from acclimate.errors import DataError, reason
from acclimate.files import digest_file, free_bytes

ARCHIVE_SUFFIXES = (
    ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz",
)  # fmt: skip
_MAX_DEPTH, _MAX_NAME = 32, 1024
_BLOCK = 1 << 20
_MAX_READ = 2 << 20


@dataclass(frozen=True)
class _Member:
    """One entry of an archive."""

    name: str
    info: zipfile.ZipInfo | tarfile.TarInfo


def is_archive(location: Path) -> bool:
    """Whether a file has the suffix of an archive."""
    return location.name.lower().endswith(ARCHIVE_SUFFIXES) and location.is_file()


def unpack(location: Path, max_gb: float) -> Path:
    """Unpacks an archive into the cache, unless it is there already.

    Args:
        location: The archive. It is not changed.
        max_gb: The largest unpacked size, in GB.

    Returns:
        The folder inside it that contains the class folders or splits.

    Raises:
        DataError: It is damaged, too large, or contains entries that are refused.
        OutputError: The disk is full.
    """
    most = size_limit(location.stat().st_size, max_gb)
    folder = unpacked_once(digest_file(location), lambda part: _unpack(location, part, most))
    return _data_folder(folder)


def _unpack(location: Path, part: Path, max_bytes: int) -> None:
    room = free_bytes(part) - MIN_SIZE_LIMIT
    try:
        with _open_archive(location) as archive:
            remaining, seen = max_bytes, set[str]()
            max_files = file_limit(location.stat().st_size)
            for member in archive.members():
                if len(seen) >= max_files:
                    raise DataError(
                        f"archive holds more than {max_files:,} files, too many for its size.",
                        where=location,
                        hint="Unpack it yourself if you trust it.",
                    )
                place = _target_path(member, location, seen)
                if place is None:
                    continue
                target = part.joinpath(*place.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as stream:
                    remaining -= _write(stream, target, min(remaining, room), location, max_bytes)
                room -= target.stat().st_size
    except _READ_ERRORS as error:
        raise DataError(
            f"archive is damaged or of an unsupported kind ({reason(error)}).",
            where=location,
            hint="Pack it again, or give the folder itself.",
        ) from error


_READ_ERRORS = (
    zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, NotImplementedError,
    UnicodeError, FileExistsError, NotADirectoryError, IsADirectoryError, RuntimeError,
)  # fmt: skip


def _target_path(member: _Member, location: Path, seen: set[str]) -> PurePosixPath | None:
    """The path to unpack an entry to; None for a folder.

    One bad name refuses the whole archive, since nobody packs `../` by mistake.
    """
    fault = _name_fault(member.name) or _kind_fault(member.info)
    if fault is not None:
        raise DataError(
            f"archive holds {member.name[:200]!r}, {fault}. Nothing was unpacked.",
            where=location,
            hint="Do not use archives from people you do not trust.",
        )
    if member.info.is_dir() if isinstance(member.info, zipfile.ZipInfo) else member.info.isdir():
        return None
    place = PurePosixPath(member.name)
    # On case-insensitive file systems A.jpg and a.jpg are one file.
    if str(place).casefold() in seen:
        raise DataError(
            f"archive holds {member.name[:200]!r} twice.", where=location, hint="Pack it again."
        )
    seen.add(str(place).casefold())
    return place


def _name_fault(name: str) -> str | None:
    parts = PurePosixPath(name).parts
    if name.startswith(("/", "\\")) or name[1:2] == ":":
        return "a name that starts at the root of a disk"
    if ".." in parts or ".." in name.replace("\\", "/").split("/"):
        return "a name that leads out of the folder"
    if "\\" in name or any(ord(letter) < 32 for letter in name):
        return "a name with a backslash or a control character"
    if len(parts) > _MAX_DEPTH or len(name) > _MAX_NAME or any(len(p) > 250 for p in parts):
        return "a name that is too long or too deep"
    return None


def _kind_fault(info: zipfile.ZipInfo | tarfile.TarInfo) -> str | None:
    if isinstance(info, tarfile.TarInfo):
        if info.issym() or info.islnk():
            return "a link"
        return None if info.isfile() or info.isdir() else "a device or a pipe"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "a link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a device or a pipe"
    return "a file behind a password" if info.flag_bits & 1 else None


def _write(stream: IO[bytes], target: Path, max_bytes: int, location: Path, limit: int) -> int:
    """Writes one file and returns its size; refuses more than the largest size."""
    written = 0
    with target.open("xb") as out:
        while block := stream.read(_BLOCK):
            written += len(block)
            if written > max_bytes:
                raise DataError(
                    f"archive unpacks to more than {limit / 1e6:,.0f} MB, or than there is room: "
                    f"it has {location.stat().st_size / 1e6:,.3f} MB itself.",
                    where=location,
                    hint="Unpack it yourself if you trust it, or raise data.max_unpacked_gb.",
                )
            out.write(block)
    stamp(target)
    return written


class _Zip:
    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file = file

    def members(self) -> Iterator[_Member]:
        """All entries, from the central directory."""
        for info in self._file.infolist():
            yield _Member(info.orig_filename if "\0" in info.orig_filename else info.filename, info)

    def open(self, member: _Member) -> IO[bytes]:
        """Opens an entry."""
        assert isinstance(member.info, zipfile.ZipInfo)
        return self._file.open(member.info)


class _Tar:
    def __init__(self, file: tarfile.TarFile) -> None:
        self._file = file

    def members(self) -> Iterator[_Member]:
        """All entries, in their order."""
        for info in self._file:
            yield _Member(info.name, info)
            self._file.members = []  # type: ignore[attr-defined] # a list of millions of entries would fill the memory

    def open(self, member: _Member) -> IO[bytes]:
        """Opens an entry."""
        assert isinstance(member.info, tarfile.TarInfo)
        stream = self._file.extractfile(member.info)
        assert stream is not None
        return stream


@contextmanager
def _open_archive(location: Path) -> Iterator[_Zip | _Tar]:
    if location.suffix.lower() == ".zip":
        with zipfile.ZipFile(location) as file:
            yield _Zip(file)
    else:
        with (
            _decompressed(location) as stream,
            tarfile.open(fileobj=cast("IO[bytes]", _BoundedReads(stream)), mode="r:") as tar,
        ):
            yield _Tar(tar)


def _decompressed(location: Path) -> IO[bytes]:
    """The stream of a tar file, decompressed by its first bytes and not by its name."""
    with location.open("rb") as stream:
        head = stream.read(6)
    for magic, opener in _MAGIC.items():
        if head.startswith(magic):
            return cast("IO[bytes]", opener(location, "rb"))
    return location.open("rb")


_MAGIC: dict[bytes, Callable[..., object]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}


class _BoundedReads:
    """A stream that refuses large reads.

    tarfile reads a whole header at once, and a header may state a size of 10 GB in a file of 10 kB.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.seek, self.tell, self._stream = stream.seek, stream.tell, stream

    def read(self, size: int = -1) -> bytes:
        """Reads at most 2 MB."""
        if not 0 <= size <= _MAX_READ:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._stream.read(size)


def _data_folder(folder: Path) -> Path:
    """The folder with the data, inside the single outer folder that most archives have."""
    while True:
        entries = [entry for entry in folder.iterdir() if not is_junk(entry.name)]
        if len(entries) != 1 or not entries[0].is_dir() or entries[0].name.lower() in SPLIT_NAMES:
            return folder
        if any(is_image(path) for path in entries[0].iterdir()):
            return folder
        folder = entries[0]
