"""Writes images that come as bytes to files, with a list of them, and reads that list."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from acclimate.data.dataset import SPLITS
from acclimate.data.images.decode import read_content
from acclimate.data.sources.row import SPLIT_NAMES, Row
from acclimate.data.sources.table_columns import ImageColumns
from acclimate.data.sources.unpacked import MIN_SIZE_LIMIT, stamp
from acclimate.errors import DataError, UnreadableImage, near_names
from acclimate.files import free_bytes

_INDEX = "images.parquet"
"""The list, in the folder of the images."""
_SCHEMA = pa.schema([(name, pa.string()) for name in ("path", "label", "split", "group", "reason")])
_SUFFIXES = {
    b"\xff\xd8": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp",
    b"II*\0": ".tif", b"MM\0*": ".tif",
}  # fmt: skip
"""First bytes to suffix, for people: the content decides how an image is decoded."""


class ImageWriter:
    """Writes images into a folder, within limits.

    Args:
        folder: An empty folder.
        location: What the user gave, for messages.
        max_bytes: The largest size of all images.
        max_files: The largest number of images.
        reads_paths: Whether an image that comes as a path is read from there. Only for paths of
            the user, since a table of a stranger could name any file.
    """

    def __init__(
        self,
        folder: Path,
        location: Path | str,
        max_bytes: int,
        max_files: int,
        *,
        reads_paths: bool = False,
    ) -> None:
        self._folder, self._location, self._reads_paths = folder, location, reads_paths
        self._limit, self._left, self._max_files = max_bytes, max_bytes, max_files
        self._room = free_bytes(folder) - MIN_SIZE_LIMIT
        self._rows: list[dict[str, str | None]] = []
        self._counts: Counter[str] = Counter()

    def __enter__(self) -> Self:
        """Nothing is opened yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Writes the list, unless an error ends the work."""
        if kind is None:
            pq.write_table(pa.Table.from_pylist(self._rows, _SCHEMA), self._folder / _INDEX)

    def add(self, batch: pa.RecordBatch, columns: ImageColumns, split: str | None) -> None:
        """Writes the images of some rows.

        Args:
            batch: The rows.
            columns: Their columns.
            split: The split of rows without one, as the table's name says; None if it says none.

        Raises:
            DataError: There are too many images, they are too large, or a label has no name.
        """
        for record in batch.to_pylist():
            number = len(self._rows) + 1
            if number > self._max_files:
                raise DataError(
                    f"table holds more than {self._max_files:,} images, too many for its size.",
                    where=self._location,
                )
            where = f"{self._location}: row {number}"
            label = _label(record, columns, where)
            own = _split(record, columns, where) or split
            if label is None:
                own = "unlabelled"
            group = record[columns.group] if columns.group else None
            path, fault = self._written(record[columns.image], own or "images")
            self._rows.append(
                {
                    "path": path, "label": label, "split": own,
                    "group": None if group is None else str(group), "reason": fault,
                }
            )  # fmt: skip

    def _written(self, cell: Any, folder: str) -> tuple[str, str | None]:  # noqa: ANN401
        """Writes one image: its path, and why it cannot be used."""
        name = None
        if isinstance(cell, dict):
            cell, name = cell.get("bytes"), cell.get("path")
        self._counts[folder] += 1
        content, fault = cell or b"", "the table holds no image for it"
        if not content and name and self._reads_paths:
            try:
                content = read_content(Path(name))
            except UnreadableImage as error:
                fault = str(error).rstrip(".")
        stem = re.sub(r"[^\w.-]", "_", re.split(r"[\\/]", str(name or ""))[-1])
        stem = f"-{Path(stem).stem[:40]}" if name else ""
        suffix = next((s for magic, s in _SUFFIXES.items() if content.startswith(magic)), ".img")
        place = f"{folder}/{self._counts[folder]:07d}{stem}{suffix}"
        if not content:
            return place, fault
        self._left -= len(content)
        if self._left < 0 or len(content) > self._room:
            raise DataError(
                f"table holds more than {self._limit / 1e6:,.0f} MB of images, or than there is "
                "room on the disk of the cache.",
                where=self._location,
                hint="Raise data.max_unpacked_gb if you trust it.",
            )
        self._room -= len(content)
        target = self._folder / place
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(content)
        stamp(target)
        return place, None


def _label(record: dict[str, Any], columns: ImageColumns, where: str) -> str | None:
    value = record[columns.label] if columns.label else None
    if isinstance(value, float):  # whole numbers with gaps, as pandas writes them
        value = None if value != value else int(value) if value.is_integer() else value
    if value is None or columns.class_names is None or not isinstance(value, int):
        return None if value is None else str(value)
    if value == -1:  # test images whose labels are kept secret
        return None
    if not 0 <= value < len(columns.class_names):
        raise DataError(
            f"label {value} has no name: there are {len(columns.class_names)} classes.", where=where
        )
    return columns.class_names[value]


def _split(record: dict[str, Any], columns: ImageColumns, where: str) -> str | None:
    value = record[columns.split] if columns.split else None
    if value is None:
        return None
    name = SPLIT_NAMES.get(str(value).strip().lower())
    if name is None:
        raise DataError(
            f"split {value!r} is unknown. {near_names(str(value), SPLITS)}", where=where
        )
    return name


def list_written_images(folder: Path) -> Iterator[Row]:
    """Lists the images that `ImageWriter` wrote.

    Args:
        folder: Their folder.

    Yields:
        Row: One per image, in the order of the table.
    """
    for number, record in enumerate(pq.read_table(folder / _INDEX).to_pylist(), start=1):
        yield Row(**record, line=number)
