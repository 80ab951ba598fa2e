"""Reads Hugging Face's `imagefolder` layout: images with a metadata.csv or metadata.jsonl.

Source: https://huggingface.co/docs/datasets/image_dataset: `file_name` is relative to the
metadata file's folder, which is the data's folder or that of a split.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from acclimate.data.images.decode import is_image
from acclimate.data.settings import Source
from acclimate.data.sources.csv_reader import read_csv
from acclimate.data.sources.lists import RepeatedPaths, find_columns, parse_row
from acclimate.data.sources.row import SPLIT_NAMES, Row, listed_path
from acclimate.errors import DataError, count

_NAMES = ("metadata.csv", "metadata.jsonl")
_MAX_LINE = 1 << 20


def find_metadata(location: Path) -> list[Path]:
    """Finds the metadata files of a folder and of its split folders.

    Args:
        location: A folder.

    Returns:
        The files that have labels; none if it is a plain folder or if they hold captions or boxes.
    """
    splits = [p for p in sorted(location.iterdir()) if p.name.lower() in SPLIT_NAMES]
    places = [location, *(p for p in splits if p.is_dir() and not p.is_symlink())]
    return [p / n for p in places for n in _NAMES if (p / n).is_file() and _has_labels(p / n)]


def _has_labels(path: Path) -> bool:
    if path.suffix == ".csv":
        return {"file_name", "label"} <= set(read_csv(path).columns)
    _, cells = next(_json_lines(path), (1, dict[str, str | None]()))
    return cells.get("path") is not None and "label" in cells


def list_imagefolder(location: Path, source: Source, notes: list[str]) -> Iterator[Row]:
    """Lists the images of a folder's metadata files.

    Args:
        location: The folder.
        source: How to read it.
        notes: Extended with the number of images that no metadata file names.

    Yields:
        Row: One per line.
    """
    listed: set[str] = set()
    for path in find_metadata(location):
        base = path.parent.relative_to(location).as_posix()
        prefix = "" if base == "." else f"{base}/"
        repeated = RepeatedPaths(path, notes)
        for number, cells in _records(path):
            where = f"{path}:{number}"
            if cells.get("path"):
                place = listed_path(str(cells["path"]).strip(), path.parent)
                cells = {**cells, "path": prefix + place}
                cells["split"] = cells.get("split") or _split_of(str(cells["path"]))
            row = repeated.check(parse_row(cells, where, location, source, number))
            listed.add(row.path)
            yield row
        repeated.close()
    unnamed = len(_images(location) - listed)
    if unnamed:
        notes.append(f"{count(unnamed, 'image')} that no metadata file names: left out.")


def _split_of(path: str) -> str | None:
    """The split of a path, if its first folder is a split folder."""
    first = path.split("/")[0].lower()
    return first if "/" in path and first in SPLIT_NAMES else None


def _images(location: Path) -> set[str]:
    return {
        (Path(where) / name).relative_to(location).as_posix()
        for where, _, names in os.walk(location)
        for name in names
        if is_image(Path(where) / name)
    }


def _records(path: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Each line's number and cells, by our column names."""
    if path.suffix == ".jsonl":
        yield from _json_lines(path)
        return
    listed = read_csv(path)
    columns = find_columns(listed.columns, path)
    for line in listed.lines:
        yield line.number, {ours: line.cells.get(theirs) for ours, theirs in columns.items()}


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    with path.open("rb") as stream:
        number = 0
        while line := stream.readline(_MAX_LINE + 1):
            number += 1
            if line.strip():
                yield number, _json_cells(line, f"{path}:{number}")


def _json_cells(line: bytes, where: str) -> dict[str, str | None]:
    try:
        record = json.loads(line) if len(line) <= _MAX_LINE else None
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise DataError(
            "line is not a JSON object.",
            where=where,
            hint='Write one image a line: {"file_name": "1.jpg", "label": "cat"}.',
        )
    cells = {}
    for ours, theirs in (("path", "file_name"), ("label", "label"), ("split", "split")):
        value = record.get(theirs)
        if isinstance(value, dict | list | bool):
            raise DataError(f"{theirs} is {value!r}, not a name.", where=where)
        if theirs in record or ours == "path":
            cells[ours] = None if value is None else str(value)
    if record.get("group") is not None:
        cells["group"] = str(record["group"])
    return cells
