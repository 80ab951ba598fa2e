"""The place of images that are not files yet: archives and tables are written there once."""

import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from acclimate.cache import cache_folder, usable_cache
from acclimate.errors import OutputError
from acclimate.files import atomic_folder

_MIN_FILE_LIMIT, _MIN_BYTES_PER_FILE = 10_000, 64
"""Files that any source may hold, and the bytes of its own required for each further one."""
_MAX_RATIO = 100
"""Largest compression ratio. Photos have 1, scans in BMP 50, decompression bombs a million."""
MIN_SIZE_LIMIT = 64 << 20
"""Bytes that any source may unpack to, however small: flat drawings compress well."""
_TIMESTAMP = 315_532_800
"""Modification time of all unpacked files, so that the data has the same digest each time."""


def size_limit(own_bytes: int, max_gb: float) -> int:
    """The largest unpacked size of a source, in bytes.

    Args:
        own_bytes: The size of the source itself.
        max_gb: The largest size of all, in GB.

    Returns:
        Bytes.
    """
    return int(min(max_gb * 1e9, _MAX_RATIO * own_bytes + MIN_SIZE_LIMIT))


def file_limit(own_bytes: int) -> int:
    """The largest number of files that a source of some bytes may hold."""
    return _MIN_FILE_LIMIT + own_bytes // _MIN_BYTES_PER_FILE


def unpacked_once(key: str, write: Callable[[Path], None]) -> Path:
    """The folder of a source's images, written if it is not there yet.

    Args:
        key: The digest of the source's content.
        write: Writes all images into a folder.

    Returns:
        The folder, in the cache; in the folder for temporary files if there can be no cache.

    Raises:
        OutputError: The disk is full, or neither place can be written.
    """
    place = usable_cache(cache_folder())
    if place is None:
        raise OutputError(
            "there is no place to unpack data to.",
            where=cache_folder(),
            hint="Set XDG_CACHE_HOME to a folder that can be written.",
        )
    folder = place / "archives" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            with atomic_folder(folder) as part:
                write(part)
    return folder


def stamp(path: Path) -> None:
    """Gives a file the time of all unpacked files."""
    os.utime(path, (_TIMESTAMP, _TIMESTAMP))
