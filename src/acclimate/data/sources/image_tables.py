"""Parquet tables that hold the images themselves, as Hugging Face publishes data sets.

The images are written as files once, into the cache, and listed there, so that every later stage
reads them as it reads any other image. Tables may come from untrusted sources: their bytes are
counted while they are written, whatever sizes the tables state.

Source: https://huggingface.co/docs/datasets/repository_structure for the names of files, and
https://huggingface.co/docs/hub/datasets-image for `struct<bytes, path>`.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from acclimate.data.settings import Source
from acclimate.data.sources.folders import is_junk
from acclimate.data.sources.row import OUTSIDE, SPLIT_NAMES, is_inside
from acclimate.data.sources.table_columns import image_columns
from acclimate.data.sources.unpacked import file_limit, size_limit, unpacked_once
from acclimate.data.sources.written_images import ImageWriter
from acclimate.errors import DataError, listed, reason
from acclimate.files import digest_file, digest_json

_ROWS_PER_BATCH = 16
"""Rows in memory at once; their images may have 100 MB each."""
_SEEN = 64
"""Entries of a folder that are looked at to find tables in it."""


@dataclass(frozen=True)
class ImageTable:
    """One Parquet file with images.

    Attributes:
        path: The file.
        split: The split that its name says, one of ours; None if it says none.
    """

    path: Path
    split: str | None


def find_image_tables(location: Path, source: Source) -> list[ImageTable]:
    """Finds tables that hold images.

    Args:
        location: A Parquet file, or a folder of a Hugging Face data set.
        source: Whether links out of the folder are followed.

    Returns:
        The tables, sorted by name; none if this is another kind of place.

    Raises:
        DataError: A folder holds several data sets, or links that lead out of it.
    """
    if location.is_file():
        named = location.suffix.lower() == ".parquet" and _holds_images(location)
        return [ImageTable(location, _split_of(location))] if named else []
    try:
        found = {p: _tables_in(p) for p in (location, *sorted(_subfolders(location)))}
    except OSError:
        return []  # told when the folder is listed
    found = {place: paths for place, paths in found.items() if paths and _holds_images(paths[0])}
    paths = [path for paths in found.values() for path in paths]
    _check_one_set(location, found)
    for path in paths:
        if not source.allow_outside and not is_inside(path, location):
            raise DataError(
                f"{path.name} is a link that {OUTSIDE} the folder.",
                where=location,
                hint="If you trust this data, set data.allow_outside to true.",
            )
    return [ImageTable(path, _split_of(path)) for path in paths]


def _subfolders(location: Path) -> Iterator[Path]:
    """`data`, folders of splits, folders of configurations, and folders of splits in those."""
    for entry in _entries(location):
        if entry.is_dir() and not is_junk(entry.name):
            yield Path(entry)
            for inner in _entries(entry, _SEEN):
                if inner.name.lower() in SPLIT_NAMES and inner.is_dir():
                    yield Path(inner)


def _entries(folder: os.PathLike[str], most: int | None = None) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return list(islice(found, most))


def _tables_in(folder: Path) -> list[Path]:
    """The Parquet files of a folder; none if its first entries are none, as in class folders."""
    if not any(entry.name.lower().endswith(".parquet") for entry in _entries(folder, _SEEN)):
        return []
    return sorted(
        path for path in folder.glob("*.parquet") if path.is_file() and path.name[0] != "."
    )


def _check_one_set(location: Path, found: dict[Path, list[Path]]) -> None:
    """Refuses several configurations, which may be the same images with other labels."""
    sets = {
        place.parent if place.name.lower() in SPLIT_NAMES and place != location else place
        for place in found
    }
    if len(sets) > 1:
        names = sorted(place.relative_to(location).as_posix() for place in sets)
        raise DataError(
            f"folder holds several data sets: {listed(names)}.",
            where=location,
            hint=f"Give one of these folders, such as {location / names[0]}.",
        )


def _split_of(path: Path) -> str | None:
    """The split in the name of a file, or else the one that its folder is called after."""
    words = [*re.split(r"[^a-z]+", path.stem.lower()), path.parent.name.lower()]
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def _holds_images(path: Path) -> bool:
    try:
        return image_columns(pq.read_schema(path), path) is not None
    except (pa.ArrowException, OSError):
        return False  # told when it is read as a list


def write_image_tables(tables: list[ImageTable], location: Path, source: Source) -> Path:
    """Writes the images of tables as files into the cache, unless they are there already.

    Args:
        tables: From `find_image_tables`; at least one.
        location: What the user gave, for messages.
        source: The largest size.

    Returns:
        Their folder, as `list_written_images` reads it.

    Raises:
        DataError: A table is damaged, has unfit columns or holds too much.
        OutputError: The disk is full.
    """
    own_bytes = sum(table.path.stat().st_size for table in tables)
    most = size_limit(own_bytes, source.max_unpacked_gb)
    key = digest_json([[digest_file(table.path), table.split] for table in tables])

    def write(part: Path) -> None:
        with ImageWriter(part, location, most, file_limit(own_bytes)) as writer:
            for table in tables:
                _write_table(table, writer)

    return unpacked_once(key, write)


def _write_table(table: ImageTable, writer: ImageWriter) -> None:
    try:
        file = pq.ParquetFile(table.path)
        columns = image_columns(file.schema_arrow, table.path)
        if columns is None:
            raise DataError("table holds no images, and others beside it do.", where=table.path)
        for batch in file.iter_batches(_ROWS_PER_BATCH, columns=columns.names):
            writer.add(batch, columns, table.split)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the table
        raise DataError(f"table cannot be read ({reason(error)}).", where=table.path) from error
