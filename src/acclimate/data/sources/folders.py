"""Reads folders of class folders and of train/val/test folders."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from acclimate.data.images.decode import is_image
from acclimate.data.settings import Source
from acclimate.data.sources.row import OUTSIDE, SPLIT_NAMES, Row, is_inside
from acclimate.errors import DataError, count
from acclimate.files import as_text, resolved

_JUNK_FOLDERS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found", "__pycache__"})
_JUNK_FILES = frozenset({"thumbs.db", "desktop.ini"})


def list_folder(location: Path, source: Source, notes: list[str]) -> Iterator[Row]:
    """Lists the images in a folder.

    Args:
        location: The folder.
        source: How to read it.
        notes: Extended with what is left out.

    Yields:
        Row: One per file, sorted by name.
    """
    names = _class_folders(location, source, notes)
    splits = {name: SPLIT_NAMES.get(name.strip().lower()) for name in names}
    if {"train", "val", "test"} & set(splits.values()) and "train" in splits.values():
        known = [name for name in names if splits[name]]
        if len(known) > 1 or len(names) == 1:
            notes += [
                f"{location.name}/{n} is not a split: left out." for n in names if not splits[n]
            ]
            for name in known:
                yield from _split_folder(location, name, str(splits[name]), source, notes)
            _note_loose_files(location, notes)
            return
    if names:
        for label in names:
            yield from _class_images(location, location / label, label, None, source, notes)
        _note_loose_files(location, notes)
    else:
        yield from _class_images(location, location, None, "unlabelled", source, notes)


def _split_folder(
    location: Path, name: str, split: str, source: Source, notes: list[str]
) -> Iterator[Row]:
    folder = location / name
    if split == "unlabelled":
        yield from _class_images(location, folder, None, split, source, notes)
        return
    labels = _class_folders(folder, source, notes)
    if not labels:
        raise DataError(
            "split folder has no class folders.",
            where=folder,
            hint="Put its images into one folder per class.",
        )
    for label in labels:
        yield from _class_images(location, folder / label, label, split, source, notes)
    _note_loose_files(folder, notes)


def _class_folders(location: Path, source: Source, notes: list[str]) -> list[str]:
    names = []
    _, folders, _ = next(os.walk(location, onerror=raise_unreadable))
    for name in sorted(folders):
        if as_text(name) != name:
            notes.append(f"{location.name}/{as_text(name)} has a name that is not UTF-8: left out.")
        elif is_junk(name):
            notes.append(f"{location.name}/{name} is not a class: left out.")
        elif not source.allow_outside and not is_inside(location / name, location):
            notes.append(f"{location.name}/{name} is a link out of the folder: left out.")
        else:
            names.append(name)
    return names


def _class_images(
    root: Path,
    folder: Path,
    label: str | None,
    split: str | None,
    source: Source,
    notes: list[str],
) -> Iterator[Row]:
    empty = True
    for path in _files(root, folder, source, notes):
        empty = False
        reason = None
        place = path.relative_to(root).as_posix()
        if as_text(place) != place:
            reason = "its name is not valid text"
        elif path.is_symlink() and not source.allow_outside and not is_inside(path, root):
            circle = resolved(path) is None
            reason = "link leads in a circle" if circle else f"link {OUTSIDE} the folder"
        elif not is_image(path):
            reason = f"not an image file ({path.suffix or 'no suffix'})"
        yield Row(place, label, split, None, reason)
    if empty and label is not None:
        notes.append(f"{folder.relative_to(root.parent).as_posix()} is empty: not a class.")


def _files(root: Path, folder: Path, source: Source, notes: list[str]) -> Iterator[Path]:
    """The files in a folder, sorted. Links to folders are followed with `allow_outside` only."""
    seen: set[Path] = set()
    follow = source.allow_outside
    for where, folders, files in os.walk(folder, onerror=raise_unreadable, followlinks=follow):
        here = Path(where)
        real = resolved(here)
        if real is None or real in seen:
            folders.clear()  # links form a loop
            continue
        seen.add(real)
        for name in sorted(folders):
            shown = as_text((here / name).relative_to(root.parent).as_posix())
            if is_junk(name):
                folders.remove(name)
                notes.append(f"{shown} is not a class: left out.")
            elif (here / name).is_symlink() and not source.allow_outside:
                notes.append(f"{shown} is a link to a folder: left out.")
        folders.sort()
        for name in sorted(files):
            if not name.startswith(".") and name.lower() not in _JUNK_FILES:
                yield here / name


def raise_unreadable(error: OSError) -> NoReturn:
    """Raises an error for a folder that `os.walk` cannot list, which it would skip silently."""
    raise DataError(
        f"folder cannot be read ({(error.strerror or str(error)).lower()}).",
        where=error.filename,
        hint="Give yourself the right to read it, or move it away.",
    ) from error


def _note_loose_files(location: Path, notes: list[str]) -> None:
    loose = [p for p in location.iterdir() if p.is_file() and is_image(p)]
    if loose:
        notes.append(f"{count(len(loose), 'image')} outside the class folders: left out.")


def is_junk(name: str) -> bool:
    """Whether a folder is hidden or a system folder, by its name."""
    return name.startswith(".") or name in _JUNK_FOLDERS
