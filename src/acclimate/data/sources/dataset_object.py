"""Reads Hugging Face's `datasets.Dataset` and `DatasetDict`, without importing `datasets`."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from acclimate.data.dataset import SPLITS, Dataset
from acclimate.data.settings import Source
from acclimate.data.sources.read import of_rows
from acclimate.data.sources.row import SPLIT_NAMES
from acclimate.data.sources.table_columns import image_columns
from acclimate.data.sources.unpacked import unpacked_once
from acclimate.data.sources.written_images import ImageWriter, list_written_images
from acclimate.errors import DataError, near_names
from acclimate.files import DIGEST_BYTES

_ROWS_PER_BATCH = 64
_DEFAULT = Source()
_WHERE = "datasets.Dataset"


class DatasetObject(Protocol):
    """What is used of a `datasets.Dataset`."""

    features: Mapping[str, Any]

    def __len__(self) -> int:
        """The number of rows."""

    def with_format(self, kind: str) -> Any:  # noqa: ANN401 - the same class
        """The same rows; with "arrow", slices of it are Arrow tables."""


def is_dataset_object(data: object) -> bool:
    """Whether an object is a `datasets.Dataset`, or a `DatasetDict` of them.

    Args:
        data: Anything.

    Returns:
        False for streamed data sets too, which have no length.
    """
    if isinstance(data, Mapping):
        return bool(data) and all(map(is_dataset_object, data.values()))
    return all(hasattr(data, name) for name in ("features", "with_format", "__len__"))


def read_dataset_object(
    data: DatasetObject | Mapping[str, DatasetObject], source: Source = _DEFAULT
) -> Dataset:
    """Lists the images of a `datasets.Dataset`, which are written as files into the cache once.

    Args:
        data: With a column of images, and labels as text or as numbers with class names; or a
            mapping of splits to such data sets. A data set by itself has no splits.
        source: How to read it.

    Returns:
        A data set whose `digest`, `width` and `height` are still empty.

    Raises:
        DataError: There is no column of images, a split is unknown, or the images are too large.
        OutputError: The disk is full.
    """
    parts = _parts(data)
    most, images = int(source.max_unpacked_gb * 1e9), sum(len(part) for _, part in parts)

    def write(folder: Path) -> None:
        with ImageWriter(folder, _WHERE, most, images, reads_paths=True) as writer:
            for split, part in parts:
                for table in _tables(part):
                    columns = image_columns(table.schema, _WHERE)
                    if columns is None:
                        raise DataError(
                            "no column holds images.", where=_WHERE, hint=_columns(table.schema)
                        )
                    for batch in table.to_batches():
                        writer.add(batch, columns, split)

    folder = unpacked_once(_digest(parts), write)
    return of_rows(list(list_written_images(folder)), folder, Path(_WHERE), source, [])


def _parts(
    data: DatasetObject | Mapping[str, DatasetObject],
) -> list[tuple[str | None, DatasetObject]]:
    if not isinstance(data, Mapping):
        return [(None, data)]
    for name in data:
        if name.lower() not in SPLIT_NAMES:
            raise DataError(
                f"split {name!r} is unknown. {near_names(name, SPLITS)}",
                where="datasets.DatasetDict",
                hint="Give one data set, such as data['train'].",
            )
    return [(SPLIT_NAMES[name.lower()], part) for name, part in data.items()]


def _tables(part: DatasetObject) -> Iterator[pa.Table]:
    """The rows in their order, whatever was selected and shuffled before."""
    rows = part.with_format("arrow")
    for start in range(0, len(part), _ROWS_PER_BATCH):
        yield rows[start : start + _ROWS_PER_BATCH]


def _digest(parts: list[tuple[str | None, DatasetObject]]) -> str:
    """The digest of splits and rows. An image that is a path only counts by its file's time."""
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for split, part in parts:
        state.update(repr(split).encode())
        for table in _tables(part):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
            state.update(memoryview(sink.getvalue()))
            for column in table.columns:
                if pa.types.is_struct(column.type):
                    state.update(repr(_times(column.to_pylist())).encode())
    return state.hexdigest()


def _times(cells: list[Any]) -> list[float]:
    paths = [cell["path"] for cell in cells if cell and not cell.get("bytes") and cell.get("path")]
    return [Path(path).stat().st_mtime for path in paths if Path(path).is_file()]


def _columns(schema: pa.Schema) -> str:
    names = ", ".join(f"{field.name} ({field.type})" for field in schema)
    return f"Its columns are {names}."
