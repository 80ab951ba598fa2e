"""Reads CSV and Parquet lists of images; errors name the line."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from acclimate.data.dataset import SPLITS
from acclimate.data.settings import Source
from acclimate.data.sources.csv_reader import read_csv
from acclimate.data.sources.row import (
    OUTSIDE,
    SPLIT_NAMES,
    Row,
    is_inside,
    is_on_windows_disk,
    listed_path,
)
from acclimate.errors import DataError, near_names, reason

COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "image"),
    "label": ("label", "class", "target"),
    "split": ("split", "subset"),
    "group": ("group",),
}
"""Our columns, and the names that are accepted for them."""
_MAX_NOTES = 10
_ROWS_PER_BATCH = 10_000


def list_csv(location: Path, source: Source, notes: list[str]) -> Iterator[Row]:
    """Lists the images of a CSV or TSV file.

    Args:
        location: The file.
        source: How to read it.
        notes: Extended with unused columns and repeated images.

    Yields:
        Row: One per line.
    """
    listed = read_csv(location)
    columns = find_columns(listed.columns, location)
    notes += _unused_column_notes(listed.columns, columns, f"{location.name}:1")
    repeated = RepeatedPaths(location, notes)
    for line in listed.lines:
        values = {ours: line.cells.get(theirs) for ours, theirs in columns.items()}
        where = f"{location}:{line.number}"
        yield repeated.check(parse_row(values, where, location.parent, source, line.number))
    repeated.close()


def list_parquet(location: Path, source: Source, notes: list[str]) -> Iterator[Row]:
    """Lists the images of a Parquet file.

    Args:
        location: The file.
        source: How to read it.
        notes: Extended with unused columns and repeated images.

    Yields:
        Row: One per row.
    """
    try:
        file = pq.ParquetFile(location)
        columns = find_columns(file.schema_arrow.names, location)
        notes += _unused_column_notes(file.schema_arrow.names, columns, location.name)
        _check_paths(file.schema_arrow.field(columns["path"]), location)
        repeated, number = RepeatedPaths(location, notes, "row"), 0
        for batch in file.iter_batches(_ROWS_PER_BATCH, columns=list(columns.values())):
            for record in batch.to_pylist():
                number += 1
                values = {
                    c: None if record[n] is None else str(record[n]) for c, n in columns.items()
                }
                where = f"{location}: row {number}"
                yield repeated.check(parse_row(values, where, location.parent, source, number))
        repeated.close()
    except pa.ArrowException as error:
        raise DataError(f"list cannot be read ({reason(error)}).", where=location) from error


def _check_paths(column: pa.Field, location: Path) -> None:
    """Refuses tables with the images inside, as Hugging Face writes them."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text = pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view
    if not any(is_text(kind) for is_text in text):
        raise DataError(
            f"column {column.name!r} holds {kind}, not paths.",
            where=location,
            hint="Write the images as files, and a list of their paths.",
        )


def find_columns(names: Sequence[str], location: Path) -> dict[str, str]:
    """Matches the columns of a list to ours.

    Args:
        names: The list's column names.
        location: The list, for the message.

    Returns:
        Our column names to theirs.

    Raises:
        DataError: There is no column for the path.
    """
    plain = {str(name).strip().lower(): name for name in names}
    found = {}
    for ours, theirs in COLUMNS.items():
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


def _unused_column_notes(names: Sequence[str], used: Mapping[str, str], where: str) -> list[str]:
    """A note for each unused column, since a misspelt one would go unnoticed."""
    known = [name for names in COLUMNS.values() for name in names]
    notes = []
    for name in names:
        plain = name.strip().lower()
        if name not in used.values() and plain:
            near = near_names(plain, known)
            misspelt = near.startswith("Did") and plain not in known
            offer = f" {near}" if misspelt and len(used) < len(COLUMNS) else ""
            notes.append(f"{where}: column {name!r} is not used.{offer}")
    return notes[:_MAX_NOTES]


class RepeatedPaths:
    """Finds images that a list names more than once.

    Of lines with the same label, the first one counts. Lines with different labels both stay; the
    check for duplicates later drops them as a label conflict.

    Args:
        location: The list.
        notes: Extended with the first of them and the number of the others.
        unit: What the list's entries are called: "line" or "row".
    """

    def __init__(self, location: Path, notes: list[str], unit: str = "line") -> None:
        self._location, self._notes, self._unit = location, notes, unit
        self._first: dict[str, tuple[int | None, str | None]] = {}
        self._found = 0

    def check(self, row: Row) -> Row:
        """The row, with a reason if it is a repetition."""
        line, label = self._first.setdefault(row.path, (row.line, row.label))
        if line == row.line:
            return row
        again = f"listed again: same path as {self._unit} {line}"
        self._note(row, again if label == row.label else f"{again}, which says {label!r}")
        return replace(row, reason=row.reason or (again if label == row.label else None))

    def close(self) -> None:
        """Adds a note with the number of further repetitions."""
        if self._found > _MAX_NOTES:
            more = self._found - _MAX_NOTES
            self._notes.append(
                f"{self._location.name}: {more:,} more {self._unit}s list an image again."
            )

    def _note(self, row: Row, check: str) -> None:
        self._found += 1
        if self._found <= _MAX_NOTES:
            place = f":{row.line}" if self._unit == "line" else f": {self._unit} {row.line}"
            self._notes.append(f"{self._location.name}{place}: {row.path!r} is {check}.")


def parse_row(
    cells: Mapping[str, str | None], where: str, base: Path, source: Source, line: int
) -> Row:
    """Parses one line.

    Args:
        cells: Our column names to text.
        where: The line, for error messages.
        base: The folder that paths are relative to.
        source: How to read the list.
        line: The line number.

    Returns:
        The row, with a reason if its path leads out of the folder or is on a disk of Windows.

    Raises:
        DataError: A cell is empty or unknown.
    """
    values = {column: (cell or "").strip() or None for column, cell in cells.items()}
    path, label, split = values.get("path"), values.get("label"), values.get("split")
    if not path:
        raise DataError("path is empty.", where=where, hint="Give each line the path of an image.")
    if split is not None:
        if split.lower() not in SPLIT_NAMES:
            raise DataError(
                f"split {split!r} is unknown. {near_names(split, SPLITS)}",
                where=where,
                hint="Leave it empty to have the image assigned.",
            )
        split = SPLIT_NAMES[split.lower()]
    if "label" in values and label is None and split != "unlabelled":
        raise DataError(
            "label is empty.",
            where=where,
            hint="Give a label, or leave the column out to treat the images as unlabelled.",
        )
    if label is None:
        split = "unlabelled"
    reason, place = None, listed_path(path, base)
    if is_on_windows_disk(path) and not (base / place).exists():
        reason = (
            f"path is on a disk of Windows: make it relative to the list's folder (line {line})"
        )
    elif not source.allow_outside and not is_inside(base / place, base):
        reason = f"path {OUTSIDE} the list's folder (line {line})"
    return Row(place, label, split, values.get("group"), reason, line)
