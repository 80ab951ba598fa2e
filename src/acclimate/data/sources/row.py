"""One image before it is read, and the names of splits."""

from dataclasses import dataclass
from pathlib import Path

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
