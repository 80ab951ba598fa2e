"""Lists that exist in Python only: tables of pandas, pairs of path and label, ImageFolder."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from acclimate.data.dataset import Dataset
from acclimate.data.settings import Source
from acclimate.data.sources.dataset_object import is_dataset_object, read_dataset_object
from acclimate.data.sources.lists import RepeatedPaths, find_columns, parse_row
from acclimate.data.sources.read import of_rows
from acclimate.data.sources.row import Row
from acclimate.errors import DataError, WrongType

_HERE = Path("data")
"""Stands for the list in messages."""
WANTED = (
    "Give a folder, a list file, a table with the columns path and label, pairs of path and "
    "label, or torchvision's ImageFolder."
)
_ORDER = ("path", "label", "split", "group")


def is_listing(data: object) -> bool:
    """Whether a value lists images: a table, pairs, an ImageFolder, or a `datasets.Dataset`."""
    if is_dataset_object(data) or _is_table(data) or _samples(data) is not None:
        return True
    first = data[0] if isinstance(data, Sequence) and len(data) else None
    head = first[0] if isinstance(first, (tuple, list)) and len(first) else first
    return isinstance(head, (str, os.PathLike)) and not isinstance(data, str)


def read_listing(data: Any, source: Source) -> Dataset:  # noqa: ANN401 - see `is_listing`
    """Lists the images of a table, of pairs, or of an ImageFolder, without opening them.

    Args:
        data: A table with the columns path, label and, if wanted, split and group, under the names
            that list files may have; (path, label), (path, label, split) or paths alone; a data set
            of torchvision with `samples`, or a `Subset` of one; a `datasets.Dataset`. Relative
            paths start from the working directory.
        source: How to read it.

    Returns:
        A data set as of `read`; its root is the folder that holds all images.

    Raises:
        DataError: A cell is empty or unknown, or there are no images.
        WrongType: The value lists no image files.
    """
    if is_dataset_object(data):
        return read_dataset_object(data, source)
    cells = [_cleaned(row) for row in _cells(data)]
    paths = [Path(os.path.abspath(path)) for row in cells if (path := row.get("path"))]
    if not paths:
        raise DataError("the list is empty.", where=_HERE, hint=WANTED)
    root = Path(os.path.commonpath([path.parent for path in paths]))
    notes: list[str] = []
    repeated, rows = RepeatedPaths(_HERE, notes, "row"), list[Row]()
    for number, row in enumerate(cells):
        path = row.get("path")
        placed = {**row, "path": os.path.relpath(path, root) if path else None}
        where = f"data: row {number}"
        rows.append(repeated.check(parse_row(placed, where, root, source, number)))
    repeated.close()
    return of_rows(rows, root, root, source, notes)


def _cells(data: Any) -> Iterator[Mapping[str, Any]]:  # noqa: ANN401 - see `is_listing`
    """One mapping of our column names to values for each image."""
    if _is_table(data):
        columns = find_columns([str(name) for name in data.columns], _HERE)
        known = {str(name): name for name in data.columns}
        parts = [list(data[known[theirs]]) for theirs in columns.values()]
        for values in zip(*parts, strict=True):
            yield dict(zip(columns, values, strict=True))
        return
    samples = _samples(data)
    for row in data if samples is None else samples:
        if isinstance(row, (str, os.PathLike)):
            yield {"path": row}
        elif isinstance(row, (tuple, list)) and 1 <= len(row) <= len(_ORDER):
            yield dict(zip(_ORDER, row, strict=False))
        else:
            raise WrongType(
                f"holds {type(row).__name__}, not (path, label).", where="data", hint=WANTED
            )


def _cleaned(row: Mapping[str, Any]) -> dict[str, str | None]:
    """Values as text; what is missing in a table (None, NaN) as None."""
    return {
        name: None if value is None or value != value else os.fspath(value)
        if isinstance(value, os.PathLike) else str(value)
        for name, value in row.items()
    }  # fmt: skip


def _is_table(data: object) -> bool:
    return isinstance(getattr(data, "columns", None), Iterable) and hasattr(data, "__getitem__")


def _samples(data: object) -> list[tuple[str, str]] | None:
    """Path and class name of each image of an ImageFolder, or of a part of one."""
    indices, inner = getattr(data, "indices", None), getattr(data, "dataset", None)
    if indices is not None and inner is not None:
        whole = _samples(inner)
        return None if whole is None else [whole[i] for i in indices]
    samples, classes = getattr(data, "samples", None), getattr(data, "classes", None)
    if not isinstance(samples, list) or not isinstance(classes, Sequence):
        return None
    return [(path, str(classes[index])) for path, index in samples]
