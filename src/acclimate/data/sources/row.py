"""One image before it is read, and the words that places use."""

from dataclasses import dataclass
from pathlib import Path

from acclimate.files import resolved

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
    "unlabelled": "unlabelled", "unlabeled": "unlabelled",
}  # fmt: skip
"""What splits are called, and ours."""


@dataclass(frozen=True, slots=True)
class Row:
    """One image before it is read."""

    path: str
    label: str | None
    split: str | None
    group: str | None = None
    reason: str | None = None
    """Why it cannot be used, when that is known without opening it."""
    line: int | None = None
    """Of the list that names it."""
    domain: str | None = None
    """Where the place itself tells; else what reads it says."""
    flags: tuple[str, ...] = ()
    """What a person decided about it before."""


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path, links followed, stays in a folder."""
    real = resolved(path)
    return real is not None and real.is_relative_to(folder.resolve())
