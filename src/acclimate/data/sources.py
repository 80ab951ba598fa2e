"""Folders and lists to a table of images."""

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from acclimate.data.dataset import HOME, SCHEMA, SPLITS, Dataset, is_saved_dataset
from acclimate.data.decode import SUFFIXES
from acclimate.data.settings import Source
from acclimate.errors import DataError, count, near_names
from acclimate.files import resolved

_SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
    "unlabelled": "unlabelled", "unlabeled": "unlabelled",
}  # fmt: skip
_JUNK_FOLDERS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found", "__pycache__"})
_JUNK_FILES = frozenset({"thumbs.db", "desktop.ini"})
_DEFAULT = Source()
_MAX_FIELD = 1 << 16


@dataclass(frozen=True, slots=True)
class Row:
    """One image before it is read."""

    path: str
    label: str | None
    split: str | None
    group: str | None = None
    reason: str | None = None
    """Why it cannot be used, when that is known without opening it."""


def read(location: Path, source: Source = _DEFAULT) -> Dataset:
    """Lists the images at a place; opens none of them.

    Args:
        location: Folder, CSV, TSV or Parquet list.
        source: How to read it.

    Returns:
        A data set whose `digest`, `width` and `height` are still empty.

    Raises:
        DataError: There is no such place, or nothing usable in it.
    """
    if not location.exists():
        raise DataError(
            "no such file or folder.", where=location, hint="Check the spelling of --data."
        )
    kind = _kind(location)
    notes: list[str] = []
    root = location if location.is_dir() else location.parent
    rows = list(SOURCES[kind](location, source, notes))
    if not rows:
        raise DataError(
            "no images found here.",
            where=location,
            hint="Put them into one folder per class: photos/<class>/*.jpg.",
        )
    tables = [_table(rows, root, HOME)]
    labels = {row.label for row in rows if row.label is not None}
    for name, place in source.test_domains.items():
        tables.append(_domain(name, place, source, labels, notes))
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    return Dataset(table, tuple(sorted(labels)), root, tuple(notes))


def _domain(name: str, place: Path, source: Source, labels: set[str], notes: list[str]) -> pa.Table:
    if name == HOME:
        raise DataError(f"{HOME!r} is the name of your own images.", where="data.test_domains")
    if not place.is_dir():
        raise DataError("no such folder.", where=place, hint="Correct data.test_domains.")
    rows = [
        Row(str((place / row.path).resolve()), row.label, "test", row.group, row.reason)
        for row in _folder(place, source, notes)
    ]
    unknown = sorted({row.label for row in rows if row.label} - labels)
    if unknown:
        raise DataError(
            f"class {unknown[0]!r} is not among the data's classes. "
            f"{near_names(unknown[0], labels)}",
            where=place,
        )
    return _table(rows, place, name)


def _kind(location: Path) -> str:
    if location.is_dir():
        return "folder"
    suffix = location.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return "csv"
    if suffix == ".parquet":
        return "parquet"
    raise DataError(
        f"cannot read {suffix or 'this'} files as data.",
        where=location,
        hint="Give a folder of images, or a .csv or .parquet list.",
    )


def _folder(location: Path, source: Source, notes: list[str]) -> Iterator[Row]:
    names = _class_folders(location, source, notes)
    splits = {name: _SPLIT_NAMES.get(name.lower()) for name in names}
    if {"train", "val", "test"} & set(splits.values()) and "train" in splits.values():
        known = [name for name in names if splits[name]]
        if len(known) > 1 or len(names) == 1:
            notes += [f"{location.name}/{n} is no split: left out." for n in names if not splits[n]]
            for name in known:
                yield from _split_folder(location, name, str(splits[name]), source, notes)
            _note_loose_files(location, notes)
            return
    if names:
        for label in names:
            yield from _class(location, location / label, label, None, source, notes)
        _note_loose_files(location, notes)
    else:
        yield from _class(location, location, None, "unlabelled", source, notes)


def _split_folder(
    location: Path, name: str, split: str, source: Source, notes: list[str]
) -> Iterator[Row]:
    folder = location / name
    if split == "unlabelled":
        yield from _class(location, folder, None, split, source, notes)
        return
    labels = _class_folders(folder, source, notes)
    if not labels:
        raise DataError(
            "split folder has no class folders.",
            where=folder,
            hint="Put its images into one folder per class.",
        )
    for label in labels:
        yield from _class(location, folder / label, label, split, source, notes)
    _note_loose_files(folder, notes)


def _class_folders(location: Path, source: Source, notes: list[str]) -> list[str]:
    names = []
    for entry in sorted(os.scandir(location), key=lambda e: e.name):
        if not entry.is_dir() or entry.name in source.leave_out_classes:
            continue
        if _is_junk(entry.name):
            notes.append(f"{location.name}/{entry.name} is not a class: left out.")
        elif not source.allow_outside and not _stays(Path(entry.path), location):
            notes.append(f"{location.name}/{entry.name} is a link out of the folder: left out.")
        else:
            names.append(entry.name)
    return names


def _class(
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
        if _text(path.name) != path.name:
            reason = "its name is not valid text"
        elif path.suffix.lower() not in SUFFIXES:
            reason = f"not an image file ({path.suffix or 'no suffix'})"
        elif path.is_symlink() and not source.allow_outside and not _stays(path, root):
            reason = "link leads out of the folder"
        yield Row(path.relative_to(root).as_posix(), label, split, None, reason)
    if empty and label is not None:
        notes.append(f"{folder.relative_to(root.parent).as_posix()} is empty: no class.")


def _files(root: Path, folder: Path, source: Source, notes: list[str]) -> Iterator[Path]:
    """The files below a folder, sorted. Links to folders are followed only when asked for."""
    seen: set[Path] = set()
    for where, folders, files in os.walk(folder, followlinks=source.allow_outside):
        here = Path(where)
        real = resolved(here)
        if real is None or real in seen:
            folders.clear()  # links in a circle
            continue
        seen.add(real)
        for name in sorted(folders):
            shown = (here / name).relative_to(root.parent).as_posix()
            if _is_junk(name):
                folders.remove(name)
                notes.append(f"{shown} is not a class: left out.")
            elif (here / name).is_symlink() and not source.allow_outside:
                notes.append(f"{shown} is a link to a folder: left out.")
        folders.sort()
        for name in sorted(files):
            if not name.startswith(".") and name.lower() not in _JUNK_FILES:
                yield here / name


def _note_loose_files(location: Path, notes: list[str]) -> None:
    loose = [p for p in location.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES]
    if loose:
        notes.append(
            f"{count(len(loose), 'image')} beside the class folders, with no class: left out."
        )


def _stays(path: Path, folder: Path) -> bool:
    real = resolved(path)
    return real is not None and real.is_relative_to(folder.resolve())


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name in _JUNK_FOLDERS


def _csv(location: Path, source: Source, notes: list[str]) -> Iterator[Row]:
    # utf-8-sig: spreadsheets write a byte-order mark, which would become part of a column's name
    csv.field_size_limit(_MAX_FIELD)
    try:
        with location.open(encoding="utf-8-sig", newline="") as stream:
            start = stream.readline(_MAX_FIELD)
            delimiter = max("\t;,", key=start.count)
            stream.seek(0)
            reader = csv.DictReader(stream, delimiter=delimiter, skipinitialspace=True)
            columns = _columns(reader.fieldnames or [], location)
            for record in reader:
                where = f"{location}:{reader.line_num}"
                values = {c: record.get(n) for c, n in columns.items()}
                yield from _listed(values, where, location, source)
    except (csv.Error, UnicodeError) as error:
        raise DataError(
            f"list cannot be read ({error}).", where=location, hint="Save it as CSV in UTF-8."
        ) from error


def _parquet(location: Path, source: Source, notes: list[str]) -> Iterator[Row]:
    if is_saved_dataset(location):
        raise DataError("this is a data set, not a list.", where=location)
    try:
        file = pq.ParquetFile(location)
        columns = _columns(file.schema_arrow.names, location)
        number = 0
        for batch in file.iter_batches(10_000, columns=list(columns.values())):
            for record in batch.to_pylist():
                number += 1
                values = {
                    c: None if record[n] is None else str(record[n]) for c, n in columns.items()
                }
                yield from _listed(values, f"{location}: row {number}", location, source)
    except pa.ArrowException as error:
        raise DataError(f"list cannot be read ({error}).", where=location) from error


_COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "image"),
    "label": ("label", "class", "target"),
    "split": ("split", "subset"),
    "group": ("group",),
}


def _columns(names: Sequence[str], location: Path) -> dict[str, str]:
    """Which column of the list is which of ours."""
    plain = {str(name).strip().lower(): name for name in names}
    found = {}
    for ours, theirs in _COLUMNS.items():
        match = next((plain[name] for name in theirs if name in plain), None)
        if match is not None:
            found[ours] = match
    if "path" not in found:
        raise DataError(
            f"list has no column 'path'; it has {', '.join(map(repr, names)) or 'none'}.",
            where=location,
            hint="Name the columns path, label and split in the first line.",
        )
    return found


def _listed(
    cells: dict[str, str | None], where: str, location: Path, source: Source
) -> Iterator[Row]:
    """The row of one line; none where its class is left out."""
    values = {column: (cell or "").strip() or None for column, cell in cells.items()}
    path, label, split = values.get("path"), values.get("label"), values.get("split")
    if not path:
        raise DataError("path is empty.", where=where, hint="Give each line the path of an image.")
    if split is not None:
        if split.lower() not in _SPLIT_NAMES:
            raise DataError(
                f"split {split!r} is unknown. {near_names(split, SPLITS)}",
                where=where,
                hint="Leave it empty to have the image assigned.",
            )
        split = _SPLIT_NAMES[split.lower()]
    if "label" in values and label is None and split != "unlabelled":
        raise DataError(
            "label is empty.",
            where=where,
            hint="Give a label, or leave the column out to treat the images as unlabelled.",
        )
    if label is not None and label in source.leave_out_classes:
        return
    if label is None:
        split = "unlabelled"
    reason = None
    if not source.allow_outside and not _stays(location.parent / path, location.parent):
        reason = "path leads out of the list's folder"
    yield Row(path, label, split, values.get("group"), reason)


def _table(rows: list[Row], root: Path, domain: str) -> pa.Table:
    stats = [_stat(root / _text(row.path)) if row.reason is None else None for row in rows]
    reasons = [
        [row.reason] if row.reason else (["no such file"] if stat is None else [])
        for row, stat in zip(rows, stats, strict=True)
    ]
    size = len(rows)
    known = {
        "path": [_text(row.path) for row in rows],
        "label": pa.array([row.label for row in rows], pa.string()).dictionary_encode(),
        "split": pa.array([row.split for row in rows], pa.string()).dictionary_encode(),
        "domain": pa.array([domain] * size, pa.string()).dictionary_encode(),
        "group": [row.group for row in rows],
        "bytes": [0 if stat is None else stat.st_size for stat in stats],
        "stamp": [0 if stat is None else stat.st_mtime_ns for stat in stats],
        "keep": [not reason for reason in reasons],
        "reasons": reasons,
        "flags": [[]] * size,
    }
    columns = [known.get(field.name, pa.nulls(size, field.type)) for field in SCHEMA]
    return pa.table(columns, schema=SCHEMA)


def _text(name: str) -> str:
    """A file's name as text; bytes that are none are shown, and the file is listed as missing."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):
        return None


SOURCES: dict[str, Callable[[Path, Source, list[str]], Iterator[Row]]] = {
    "folder": _folder,
    "csv": _csv,
    "parquet": _parquet,
}
"""How each kind of place is listed: (location, source, notes to add to) to rows."""
