"""Reads files that somebody else may have written or exchanged: regular ones, once, bounded."""

import errno
import os
import stat
from pathlib import Path

from acclimate.errors import DataError, count

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)  # a link is not followed
    | getattr(os, "O_NONBLOCK", 0)  # a pipe without a writer does not hang
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_MOST_ENTRIES = 10_000
"""Of a folder that is read as a whole."""
_BLOCK = 1 << 20


def read_regular(path: Path, limit: int) -> bytes:
    """The bytes of a regular file, read once.

    Args:
        path: The file. What it is, is decided after it was opened: it cannot be exchanged between.
        limit: Most bytes to accept.

    Returns:
        The content.

    Raises:
        DataError: It is a link, a pipe, a device or a folder, or larger than the limit.
        OSError: There is no such file, or it cannot be read.
    """
    # Opening a device can do something, so what is one already is not opened.
    _check_regular(path.lstat().st_mode, path)
    try:
        handle = os.open(path, _FLAGS)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DataError("is a link, not a regular file.", where=path) from error
        raise
    with os.fdopen(handle, "rb") as stream:
        facts = os.fstat(stream.fileno())
        _check_regular(facts.st_mode, path)
        parts, left = [], limit + 1
        # Reading up to the limit at once would allocate that much for every small file.
        while left and (part := stream.read(min(left, max(facts.st_size, _BLOCK)))):
            parts.append(part)
            left -= len(part)
    if not left:
        raise DataError(f"file is larger than {limit:,} bytes.", where=path)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_folder(folder: Path, limit: int) -> dict[str, bytes]:
    """All files below a folder, each read once.

    Args:
        folder: The folder.
        limit: Most bytes to accept, of all files together.

    Returns:
        Path relative to the folder, with slashes, to content.

    Raises:
        DataError: Something in it is not a regular file, a folder in it is empty, or it is larger
            than the limit.
        OSError: It cannot be read.
    """
    files: dict[str, bytes] = {}
    pending, entries = [""], 0
    while pending:
        prefix = pending.pop()
        with os.scandir(folder / prefix) as found:
            inside = sorted(found, key=lambda entry: entry.name)
        entries += len(inside)
        if prefix and not inside:
            raise DataError(f"the folder {prefix.rstrip('/')!r} in it is empty.", where=folder)
        if entries > _MOST_ENTRIES:
            raise DataError(f"it holds more than {count(_MOST_ENTRIES, 'file')}.", where=folder)
        for entry in inside:
            name = f"{prefix}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                pending.append(f"{name}/")
            else:
                files[name] = read_regular(folder / name, limit)
                limit -= len(files[name])
    return files


def _check_regular(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise DataError(f"is {kind}, not a regular file.", where=path)
