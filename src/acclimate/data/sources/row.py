"""One image before it is read, its path in a list, and the names of splits."""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from acclimate.files import resolved

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
    "unlabelled": "unlabelled", "unlabeled": "unlabelled",
}  # fmt: skip
"""Accepted names of splits, and ours."""


@dataclass(frozen=True, slots=True)
class Row:
    """One image before it is read."""

    path: str
    label: str | None
    split: str | None
    group: str | None = None
    reason: str | None = None
    """Why it cannot be used, if that is known without opening it."""
    line: int | None = None
    """The line of the list that names it."""
    domain: str | None = None
    """The domain, if the source has one."""
    flags: tuple[str, ...] = ()
    """Earlier decisions of a fix list."""


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path is inside a folder after links are resolved."""
    real = resolved(path)
    return real is not None and real.is_relative_to(folder.resolve())


OUTSIDE = "leads out of"
"""Part of each reason that `data.allow_outside` would remove."""
_WINDOWS_ROOT = re.compile(r"[A-Za-z]:[\\/]|\\\\")
"""A drive such as `C:\\`, or a share such as `\\\\server`."""


def listed_path(text: str, folder: Path) -> str:
    """The path that a list means, whatever system wrote the list.

    Args:
        text: As the list has it: with backslashes if it was written on Windows, and in another
            Unicode normal form than the file's name if it was written on macOS.
        folder: The folder that it is relative to.

    Returns:
        The path as it is if there is such a file, or else with slashes and in the form of a file
        that exists.
    """
    if "\\" not in text and text.isascii():  # nearly all paths
        return text
    plain = text.replace("\\", "/")
    forms = [unicodedata.normalize(form, plain) for form in ("NFC", "NFD")]
    return next((form for form in (text, plain, *forms) if _exists(folder / form)), plain)


def is_on_windows_disk(text: str) -> bool:
    """Whether a path starts at a drive or a share of Windows and cannot be found here."""
    return _WINDOWS_ROOT.match(text) is not None and not PurePosixPath(text).is_absolute()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a zero byte
        return False
