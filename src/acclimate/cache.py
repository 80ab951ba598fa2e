"""The folders of what is kept between runs, and what is used in their place if they cannot be."""

import logging
import os
import stat
import tempfile
from functools import cache
from pathlib import Path

from acclimate.errors import reason
from acclimate.files import free_bytes

log = logging.getLogger("acclimate")
_MIN_FREE_BYTES = 64 << 20
"""Bytes that must be free on the disk of a cache."""


_NO_HOME = Path(os.sep, "nonexistent", "acclimate")
"""The home of users without one, which cannot be written (Debian's policy)."""


def cache_folder() -> Path:
    """The folder of features and exported backbones between runs (the XDG cache folder)."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(base or Path.home() / ".cache") / "acclimate"
    except RuntimeError:  # this user has no home
        return _NO_HOME


def pixel_folder(cache: Path) -> Path:
    """The folder of decoded images in a cache folder."""
    return cache / "pixels"


def usable_cache(folder: Path) -> Path | None:
    """A cache folder that can be written; a cache is never needed.

    Logs one line, once in a process, if it is another folder or none.

    Args:
        folder: The folder that is wanted.

    Returns:
        The folder, which need not exist yet; one among the temporary files if it cannot be
        written; None if that cannot be written either.
    """
    fault = _fault(folder)
    return folder if fault is None else _other_cache(folder, fault)


@cache
def _other_cache(folder: Path, fault: str) -> Path | None:
    try:
        other: Path | None = temporary_folder() / "cache"
    except OSError:  # there is no folder for temporary files
        other = None
    if other is not None and _fault(other):
        other = None
    instead = "nothing is cached" if other is None else f"{other} is used instead"
    wanted = "XDG_CACHE_HOME" if folder == cache_folder() else "the context's cache"
    log.warning(
        f"cache {folder} cannot be used ({fault}): {instead}. Set {wanted} to another folder."
    )
    return other


def temporary_folder() -> Path:
    """This user's own folder among the temporary files, which no other user can read.

    Returns:
        The folder, the same one in each run unless another user made a folder of its name.

    Raises:
        OSError: There is no place for temporary files.
    """
    name = f"acclimate-{os.getuid()}" if hasattr(os, "getuid") else "acclimate"
    folder = Path(tempfile.gettempdir()) / name
    folder.mkdir(mode=0o700, exist_ok=True)
    facts = folder.lstat()
    if not hasattr(os, "getuid"):
        return folder
    own = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and not facts.st_mode & 0o077
    return folder if own else Path(tempfile.mkdtemp(prefix="acclimate-"))


def _fault(folder: Path) -> str | None:
    """Why a folder cannot be written or made, or None."""
    try:
        place = next(place for place in (folder, *folder.parents) if place.exists())
        tempfile.TemporaryFile(dir=place).close()
        free = free_bytes(place)
    except (OSError, ValueError) as error:
        return (getattr(error, "strerror", None) or reason(error)).lower()
    return None if free >= _MIN_FREE_BYTES else f"{free / 1e6:,.0f} MB are free on its disk"
