"""Reads folders, lists and archives into one table of images."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from acclimate.data.class_names import class_name, with_class_names
from acclimate.data.dataset import HOME, SCHEMA, Dataset, is_saved_dataset
from acclimate.data.images.decode import IMAGE_SUFFIXES
from acclimate.data.settings import Source
from acclimate.data.sources.archive_reader import ARCHIVE_SUFFIXES, is_archive, unpack
from acclimate.data.sources.fix_list import apply_fixes
from acclimate.data.sources.folders import list_folder
from acclimate.data.sources.group_from import with_groups
from acclimate.data.sources.image_tables import find_image_tables, write_image_tables
from acclimate.data.sources.imagefolder import find_metadata, list_imagefolder
from acclimate.data.sources.lists import list_csv, list_parquet
from acclimate.data.sources.row import OUTSIDE, Row
from acclimate.data.sources.saved_dataset import list_saved_dataset, saved_root
from acclimate.data.sources.written_images import list_written_images
from acclimate.errors import DataError, count, near_names
from acclimate.files import as_text, resolved

_DEFAULT_SOURCE = Source()


def read(location: Path, source: Source = _DEFAULT_SOURCE) -> Dataset:
    """Lists the images of a folder, an archive or a list, without opening them.

    Args:
        location: A folder, an archive, a CSV, TSV or Parquet list, or a saved data set.
        source: How to read it.

    Returns:
        A data set whose `digest`, `width` and `height` are still empty.

    Raises:
        DataError: It does not exist, or contains no images.
    """
    if not location.exists():
        raise DataError("no such file or folder.", where=location, hint="Check the spelling.")
    notes: list[str] = []
    root, rows = _list_rows(location, source, notes)
    return of_rows(rows, root, location, source, notes)


def of_rows(
    rows: list[Row], root: Path, location: Path, source: Source, notes: list[str]
) -> Dataset:
    """Makes a data set of the images that a source lists.

    Args:
        rows: The images.
        root: The folder that their paths are relative to.
        location: What the user gave, for messages.
        source: How to read it.
        notes: What was left out.

    Returns:
        A data set whose `digest`, `width` and `height` are still empty.

    Raises:
        DataError: There are no images, or a setting does not fit them.
    """
    rows = with_class_names(rows, notes)
    rows = _without_classes(rows, source, location)
    if not rows:
        raise DataError(
            "no images found here.",
            where=location,
            hint="Put them into one folder per class: photos/<class>/*.jpg.",
        )
    if source.group_from is not None:
        rows = with_groups(rows, source.group_from, location, notes)
    if outside := sum(OUTSIDE in (row.reason or "") for row in rows):
        verb = "path leads" if outside == 1 else "paths lead"
        notes.append(
            f"{location.name or location}: {outside:,} {verb} out of its folder: left out. If you "
            "trust this data, set data.allow_outside to true."
        )
    tables = [_table(rows, root, HOME)]
    labels = {row.label for row in rows if row.label is not None}
    present = {row.domain for row in rows}
    for name, other in source.test_domains.items():
        if name in present:
            raise DataError(
                f"the data set holds a domain {name!r} already.",
                where="data.test_domains",
                hint="Give this one another name.",
            )
        tables.append(_domain_table(name, other, source, labels, notes))
    notes += _twin_notes(tables[0])
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    file = None if root == location else location
    bits = None if source.bits == "auto" else source.bits
    listed = Dataset(table, tuple(sorted(labels)), root, tuple(notes), bits, file)
    return listed if source.fix_list is None else apply_fixes(listed, source.fix_list)


def _domain_table(
    name: str, place: Path, source: Source, labels: set[str], notes: list[str]
) -> pa.Table:
    if name == HOME:
        raise DataError(f"{HOME!r} is the name of your own images.", where="data.test_domains")
    if not place.exists():
        raise DataError("no such file or folder.", where=place, hint="Correct data.test_domains.")
    root, listed = _list_rows(place, source, notes)
    left_out = _left_out(source)
    rows = [
        Row(str(resolved(root / row.path) or root / row.path), row.label, "test", row.group,
            row.reason, row.line)
        for row in with_class_names(listed, notes)
        if row.domain in (None, HOME) and row.label not in left_out
    ]  # fmt: skip
    if not rows:
        raise DataError("no images found here.", where=place, hint="Correct data.test_domains.")
    unknown = sorted({row.label for row in rows if row.label} - labels)
    if unknown:
        raise DataError(
            f"class {unknown[0]!r} is not among the data's classes. "
            f"{near_names(unknown[0], labels)}",
            where=place,
        )
    return _table(rows, place, name)


def _list_rows(location: Path, source: Source, notes: list[str]) -> tuple[Path, list[Row]]:
    """The folder that paths are relative to, and the rows."""
    place = unpack(location, source.max_unpacked_gb) if is_archive(location) else location
    if tables := find_image_tables(place, source):
        folder = write_image_tables(tables, location, source)
        return folder, list(list_written_images(folder))
    kind = _source_kind(place)
    root = saved_root(place) if kind == "saved" else place if place.is_dir() else place.parent
    return root, list(SOURCES[kind](place, source, notes))


def _without_classes(rows: list[Row], source: Source, location: Path) -> list[Row]:
    """Removes left-out classes; refuses unknown names, since a misspelt class would stay."""
    present = {row.label for row in rows if row.label is not None}
    left_out = _left_out(source)
    unknown = [name for name in left_out if name not in present]
    # A saved data set may have been made without them.
    if unknown and rows and not is_saved_dataset(location):
        offer = near_names(unknown[0], present) if present else "The images have no classes."
        raise DataError(
            f"there is no class {unknown[0]!r} to leave out. {offer}",
            where=location,
            hint="Correct data.leave_out_classes.",
        )
    return [row for row in rows if row.label not in left_out]


def _left_out(source: Source) -> tuple[str, ...]:
    return tuple(class_name(name) for name in source.leave_out_classes)


def _source_kind(location: Path) -> str:
    if location.is_dir():
        return "imagefolder" if find_metadata(location) else "folder"
    suffix = location.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return "csv"
    if suffix == ".parquet":
        return "saved" if is_saved_dataset(location) else "parquet"
    raise DataError(
        f"cannot read {f'{suffix} files' if suffix else 'this file'} as data.",
        where=location,
        hint="Give a folder of images, an archive of one "
        f"({', '.join(ARCHIVE_SUFFIXES)}), or a .csv or .parquet list.",
    )


def _table(rows: list[Row], root: Path, domain: str) -> pa.Table:
    stats = [_stat(root / as_text(row.path)) if row.reason is None else None for row in rows]
    reasons = [
        [row.reason] if row.reason else ([_missing(row)] if stat is None else [])
        for row, stat in zip(rows, stats, strict=True)
    ]
    size = len(rows)
    known = {
        "path": [as_text(row.path) for row in rows],
        "label": pa.array([row.label for row in rows], pa.string()).dictionary_encode(),
        "split": pa.array([row.split for row in rows], pa.string()).dictionary_encode(),
        "domain": pa.array([row.domain or domain for row in rows], pa.string()).dictionary_encode(),
        "group": [row.group for row in rows],
        "bytes": [0 if stat is None else stat.st_size for stat in stats],
        "stamp": [0 if stat is None else stat.st_mtime_ns for stat in stats],
        "keep": [not reason for reason in reasons],
        "reasons": reasons,
        "flags": [list(row.flags) for row in rows],
    }
    columns = [known.get(field.name, pa.nulls(size, field.type)) for field in SCHEMA]
    return pa.table(columns, schema=SCHEMA)


def _twin_notes(table: pa.Table) -> list[str]:
    """A note on images that differ in suffix only: a photo and its mask, or a RAW and its JPEG."""
    paths = pc.unique(table["path"].filter(table["keep"]))
    stems = pc.replace_substring_regex(paths, _SUFFIX, "")
    counts = stems.value_counts()
    twins = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if not len(twins):
        return []
    first = [path for path in paths.filter(pc.equal(stems, twins[0])).to_pylist()][:2]
    images = count(len(twins), "image has", "images have")
    return [
        f"{images} a twin of the same name with another suffix, such as {first[0]} and {first[1]}: "
        "all are used. Move them away if they are masks or previews."
    ]


_SUFFIX = rf"(?i)\.({'|'.join(suffix[1:] for suffix in sorted(IMAGE_SUFFIXES))})$"


def _missing(row: Row) -> str:
    return "no such file" if row.line is None else f"no such file (line {row.line})"


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):
        return None


SOURCES: dict[str, Callable[[Path, Source, list[str]], Iterator[Row]]] = {
    "folder": list_folder,
    "imagefolder": list_imagefolder,
    "csv": list_csv,
    "parquet": list_parquet,
    "saved": list_saved_dataset,
}
"""How each kind of place is listed: (location, source, notes to add to) to rows."""
