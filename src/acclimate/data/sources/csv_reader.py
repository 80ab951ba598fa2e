"""Reads CSV files as people and spreadsheets write them; errors name the line."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from acclimate.errors import DataError, reason

_DELIMITERS = "\t;,"
_MAX_FIELD = 1 << 16
_NAMES = {"\t": "tabs", ";": "semicolons", ",": "commas"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a list.

    Attributes:
        number: The line number, from 1.
        cells: Column to text; None if the line is too short.
    """

    number: int
    cells: Mapping[str, str | None]


@dataclass(frozen=True)
class CsvFile:
    """An open CSV file.

    Attributes:
        columns: The names in the first line.
        lines: The other lines, read lazily, without blank ones.
    """

    columns: Sequence[str]
    lines: Iterator[Line]


def read_csv(location: Path) -> CsvFile:
    """Opens a CSV file with any delimiter, with or without a byte-order mark.

    Args:
        location: The file, UTF-8.

    Returns:
        Its columns and lines.

    Raises:
        DataError: It is not text, or its first line mixes delimiters.
    """
    lines = _lines(location)
    columns = next(lines, Line(1, {})).cells
    return CsvFile([*columns], lines)


def _lines(location: Path) -> Iterator[Line]:
    """The header as the first line, then the other lines."""
    csv.field_size_limit(_MAX_FIELD)
    number = 0
    try:
        # utf-8-sig: spreadsheets write a byte-order mark, which would become part of a name
        with location.open(encoding="utf-8-sig", newline="") as stream:
            start = stream.readline(_MAX_FIELD)
            delimiter = max(_DELIMITERS, key=start.count)
            stream.seek(0)
            reader = csv.reader(stream, delimiter=delimiter, skipinitialspace=True)
            columns = next(reader, [])
            _check_header(columns, delimiter, location)
            number = reader.line_num
            yield Line(1, dict.fromkeys(columns))
            for cells in reader:
                number = reader.line_num
                if any(cell.strip() for cell in cells):  # spreadsheets write blank rows as `,,,`
                    _check_cells(cells, len(columns), delimiter, f"{location}:{number}")
                    yield Line(number, dict(zip(columns, [*cells, *[None] * len(columns)])))  # noqa: B905 - padded
    except UnicodeError as error:
        raise DataError(
            "list is not UTF-8 text.",
            where=f"{location}:{_first_not_text(location)}",
            hint="Save it as CSV in UTF-8.",
        ) from error
    except csv.Error as error:
        raise DataError(
            f"list cannot be read ({reason(error)}).",
            where=f"{location}:{number + 1}",
            hint="Save it as CSV in UTF-8.",
        ) from error


def _first_not_text(location: Path) -> int:
    """The first line that is not UTF-8; the reader fails earlier, since it reads ahead."""
    number = 0
    with location.open("rb") as stream:
        while line := stream.readline(_MAX_FIELD):
            number += 1
            try:
                line.decode("utf-8-sig")
            except UnicodeError:
                break
    return number


def _check_header(columns: Sequence[str], delimiter: str, location: Path) -> None:
    for name in columns:
        other = next((d for d in _DELIMITERS if d != delimiter and d in name), None)
        if other is not None:
            raise DataError(
                f"the first line is separated by {_NAMES[delimiter]} and {_NAMES[other]}.",
                where=f"{location}:1",
                hint=f"Use {_NAMES[delimiter]} alone.",
            )
    twice = next((name for name in columns if columns.count(name) > 1 and name.strip()), None)
    if twice is not None:
        raise DataError(
            f"column {twice!r} appears twice.", where=f"{location}:1", hint="Name each column once."
        )


def _check_cells(cells: Sequence[str], columns: int, delimiter: str, where: str) -> None:
    """Refuses a line with too many cells or another delimiter than the first line."""
    if len(cells) > columns and any(cell.strip() for cell in cells[columns:]):
        raise DataError(
            f"line has {len(cells)} cells and the list {columns} columns.",
            where=where,
            hint='Put a cell that holds a delimiter into quotes: "a, b".',
        )
    if len(cells) == 1 < columns:
        other = next((d for d in _DELIMITERS if d != delimiter and d in cells[0]), None)
        if other is not None and cells[0].count(other) == columns - 1:
            raise DataError(
                f"line is separated by {_NAMES[other]}, the first line by {_NAMES[delimiter]}.",
                where=where,
                hint="Use the same delimiter in all lines.",
            )
