"""The table of images: one row per image; files are never moved or deleted."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from acclimate.arguments import checked
from acclimate.data.class_names import class_name
from acclimate.data.sampling import balanced_sample as balanced_sample
from acclimate.errors import DataError, count, listed, near_names, reason
from acclimate.files import AnyPath, check_named, digest_bytes, digest_json, writing_errors
from acclimate.shown import Shown, as_frame

if TYPE_CHECKING:
    import pandas

FORMAT = 4
_ADDED_IN_FORMAT = {"orientation": 2, "phash_details": 3, "format": 4}
"""The format that added a column; older tables have nulls there."""
_DIGEST_FORMAT = 1
"""The format of the digest. Columns that no stage depends on do not change it."""
HOME = "home"
"""The domain of the user's own images; other domains come from `test_domains`."""
SPLITS = ("train", "val", "test", "unlabelled")
FIX_FLAG_PREFIX = "fix_"
"""Prefix of the flags that a fix list set. They are decisions, so they are part of the digest."""

_WORD = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("label", _WORD),
        ("split", _WORD),
        ("domain", _WORD),
        ("group", pa.string()),
        ("bytes", pa.int64()),
        ("stamp", pa.int64()),  # modification time in ns: identifies the content until it is read
        ("digest", pa.binary(16)),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("keep", pa.bool_()),
        ("reasons", pa.list_(pa.string())),
        ("duplicate_of", pa.string()),
        # Filled by cleaning; null if the check that fills the column did not run.
        ("flags", pa.list_(pa.string())),
        ("format", _WORD),
        ("mode", _WORD),
        ("orientation", pa.int8()),
        ("pixels", pa.binary(16)),
        ("phash", pa.uint64()),
        ("phash_details", pa.uint64()),
        ("brightness", pa.float32()),
        ("contrast", pa.float32()),
        ("sharpness", pa.float32()),
        ("entropy", pa.float32()),
        ("color", pa.float32()),
        ("thumbnail", pa.binary(256)),  # 16 x 16 luminance, during cleaning only
        ("cluster", pa.int32()),
        ("near_duplicate", pa.float32()),
        ("label_error", pa.float32()),
        ("suggested_label", _WORD),
        ("outlier", pa.float32()),
    ]
)
Rows = NDArray[np.int64]
"""Row numbers in a table."""


@checked
@dataclass(frozen=True, repr=False)
class Dataset(Shown):
    """Images with their labels and splits.

    Attributes:
        table: One row per image; columns as in `SCHEMA`.
        classes: Class names, sorted; a class id is an index into them.
        root: The folder that paths are relative to.
        notes: Sentences for people: what was left out without becoming a row, such as junk folders,
            and what cleaning found about the data as a whole.
        bits: Bits of the samples in 16-bit grey images, one number for all images; None if it was
            not given and no image has 16 bits.
        file: The archive or list that the images were read from, for messages; not saved.
    """

    table: pa.Table
    classes: tuple[str, ...]
    root: Path
    notes: tuple[str, ...] = field(default=())
    bits: int | None = None
    file: Path | None = field(default=None, compare=False)

    def summary(self) -> dict[str, str]:
        """What it is, in words."""
        sizes = {split: len(self.rows(split)) for split in SPLITS}
        kept = int(self.keep.sum())
        return {
            "images": count(len(self), "image") + (f", {kept:,} kept" if kept < len(self) else ""),
            "classes": f"{count(len(self.classes), 'class', 'classes')}: {listed(self.classes, 3)}",
            "splits": ", ".join(f"{s} {n:,}" for s, n in sizes.items() if n) or "no splits yet",
            "place": repr(str(self.shown_root)),
        }

    def to_pandas(self) -> "pandas.DataFrame":
        """The table of images as a table of pandas."""
        return as_frame(self.table.to_pylist())

    def __len__(self) -> int:
        """The number of rows, kept or not."""
        return int(self.table.num_rows)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """int64, (N,): class ids; -1 if there is no label."""
        return self._ids("label", self.classes)

    @cached_property
    def splits(self) -> NDArray[np.int64]:
        """int64, (N,): indices into `SPLITS`; -1 if there is none."""
        return self._ids("split", SPLITS)

    @cached_property
    def keep(self) -> NDArray[np.bool_]:
        """bool, (N,): whether each image is used."""
        return np.asarray(self.table["keep"].to_numpy(zero_copy_only=False), bool)

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """All domains, the user's own first."""
        names = set(pc.unique(self.table["domain"].cast(pa.string())).to_pylist()) - {None, HOME}
        return (HOME, *sorted(names))

    @cached_property
    def paths(self) -> list[str]:
        """Paths as written in the table."""
        return list(self.table["path"].to_pylist())

    @cached_property
    def digest(self) -> str:
        """Digest of everything that training and evaluation depend on."""
        parts = [digest_json({"format": _DIGEST_FORMAT, "classes": self.classes})]
        has_digests = self.table["digest"].null_count < len(self)
        columns = ["path", "label", "split", "domain", "group", "keep"]
        columns += ["digest"] if has_digests else ["bytes", "stamp"]
        for name in columns:
            column = self.table[name]
            if pa.types.is_dictionary(column.type):
                column = column.cast(pa.string())
            parts.append(digest_bytes(repr(column.to_pylist()).encode()))
        if self.bits is not None:
            parts.append(digest_json({"bits": self.bits}))
        if decided := self._fix_flags():
            parts.append(digest_json(decided))
        return digest_json(parts)

    @cached_property
    def scores_digest(self) -> str:
        """Digest of the label error scores, which `digest` leaves out."""
        return digest_bytes(repr(self.table["label_error"].to_pylist()).encode())

    def _fix_flags(self) -> list[tuple[int, str]]:
        """The flags that a fix list set: row and flag."""
        lists = self.table["flags"].combine_chunks()
        rows, flags = pc.list_parent_indices(lists), pc.list_flatten(lists)
        is_fix = pc.fill_null(pc.starts_with(flags, FIX_FLAG_PREFIX), False)
        return list(
            zip(rows.filter(is_fix).to_pylist(), flags.filter(is_fix).to_pylist(), strict=True)
        )

    @property
    def shown_root(self) -> Path:
        """The path that the user gave."""
        return self.file or self.root

    def path(self, row: int) -> Path:
        """The path of an image."""
        return self.root / self.paths[row]

    def rows(self, split: str | None = None, domain: str | None = HOME) -> Rows:
        """The kept rows of a split and domain, in the table's order.

        Args:
            split: One of `SPLITS`, or None for every split.
            domain: A domain, or None for every domain.

        Returns:
            int64, (n,).

        Raises:
            DataError: There is no such split.
        """
        chosen = self.keep.copy()
        if split is not None and split not in SPLITS:
            raise DataError(f"there is no split {split!r}. {near_names(split, SPLITS)}")
        if split is not None:
            chosen &= self.splits == SPLITS.index(split)
        if domain is not None:
            chosen &= np.asarray(
                pc.equal(self.table["domain"].cast(pa.string()), domain).to_numpy(
                    zero_copy_only=False
                ),
                bool,
            )
        return np.flatnonzero(chosen)

    def has(self, column: str) -> NDArray[np.bool_]:
        """bool, (N,): whether each image has a value in a column."""
        self._check_column(column)
        return np.asarray(self.table[column].is_valid().to_numpy(zero_copy_only=False), bool)

    def with_columns(self, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> Self:
        """A copy with some columns replaced.

        Args:
            columns: Name to new values, one per row.

        Returns:
            The new data set.

        Raises:
            DataError: There is no such column, or the values do not fit it.
        """
        table = self.table
        for name, values in columns.items():
            self._check_column(name)
            place = SCHEMA.get_field_index(name)
            kind = SCHEMA.field(place).type
            try:
                array = pa.array(values, pa.string() if kind == _WORD else kind)
                array = array.cast(kind) if kind == _WORD else array
                table = table.set_column(place, name, array)
            except (pa.ArrowException, TypeError) as error:
                raise DataError(f"column {name!r} cannot hold this ({reason(error)}).") from error
        return replace(self, table=table)

    def with_classes(self, classes: Sequence[str], where: str) -> Self:
        """The same images, with the class ids of a classifier.

        Args:
            classes: The classifier's class names, in the order of its logits.
            where: The classifier's name, for the message.

        Returns:
            The data set; this one if nothing changes.

        Raises:
            DataError: A label is not among the classes.
        """
        if tuple(classes) == self.classes:
            return self
        spelt = {class_name(name): name for name in classes}
        if older := {name: spelt[name] for name in self.classes if spelt.get(name, name) != name}:
            # The classifier was trained when names were not yet brought into one spelling.
            labels = [older.get(name, name) for name in self.table["label"].to_pylist()]
            names = tuple(older.get(name, name) for name in self.classes)
            return replace(self.with_columns({"label": labels}), classes=names).with_classes(
                classes, where
            )
        unknown = [name for name in self.classes if name not in classes]
        if unknown:
            raise DataError(
                f"data has classes the model does not know: {listed(unknown)}. "
                f"{_class_suggestion(unknown[0], classes)}",
                where=where,
                hint="Fine-tune the model on this data first, or leave these classes out with "
                "--set data.leave_out_classes=[...].",
            )
        return replace(self, classes=tuple(classes))

    def counts(self, split: str, domain: str | None = HOME) -> dict[str, int]:
        """Kept images of each class in a split."""
        ids = self.labels[self.rows(split, domain)]
        found = np.bincount(ids[ids >= 0], minlength=len(self.classes))
        return dict(zip(self.classes, found.tolist(), strict=True))

    def save(self, path: AnyPath) -> None:
        """Writes one Parquet file, atomically.

        Args:
            path: The file.

        Raises:
            OutputError: The place cannot be written.
        """
        path = Path(path)
        metadata = {
            b"acclimate.format": str(FORMAT).encode(),
            b"acclimate.classes": json.dumps(self.classes, ensure_ascii=False).encode(),
            b"acclimate.root": str(self.root.resolve()).encode(),
            b"acclimate.notes": json.dumps(self.notes, ensure_ascii=False).encode(),
            b"acclimate.digest": self.digest.encode(),
            b"acclimate.bits": json.dumps(self.bits).encode(),
        }
        with writing_errors(path):
            check_named(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.part")
            pq.write_table(self.table.replace_schema_metadata(metadata), part, compression="zstd")
            part.replace(path)

    @classmethod
    def load(cls, path: AnyPath) -> Self:
        """Reads what `save` wrote.

        Args:
            path: The Parquet file.

        Returns:
            The data set.

        Raises:
            DataError: The file is not a data set of Acclimate, or of a newer format.
        """
        path = Path(path)
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"file cannot be read as Parquet ({reason(error)}).", where=path
            ) from error
        meta = table.schema.metadata or {}
        if b"acclimate.format" not in meta:
            raise DataError(
                "Parquet file is not a data set that acclimate wrote.",
                where=path,
                hint="Give it as a list with the columns path, label and split.",
            )
        try:
            written = int(meta[b"acclimate.format"])
            if written > FORMAT:
                raise DataError(
                    "data set was written by a newer acclimate.",
                    where=path,
                    hint="Upgrade acclimate.",
                )
            root = Path(meta[b"acclimate.root"].decode())
            return cls(
                table=_with_added_columns(table, written).cast(SCHEMA).combine_chunks(),
                classes=tuple(str(c) for c in json.loads(meta[b"acclimate.classes"])),
                root=root if root.exists() else path.parent,
                notes=tuple(str(n) for n in json.loads(meta[b"acclimate.notes"])),
                bits=_bits(json.loads(meta.get(b"acclimate.bits", b"null"))),
            )
        except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise DataError(f"data set is damaged ({reason(error)}).", where=path) from error

    def _check_column(self, name: str) -> None:
        if name not in SCHEMA.names:
            raise DataError(f"there is no column {name!r}. {near_names(str(name), SCHEMA.names)}")

    def _ids(self, column: str, names: Sequence[str]) -> NDArray[np.int64]:
        values = self.table[column].cast(pa.string())
        found = pc.index_in(values, value_set=pa.array(list(names), pa.string()))
        return np.asarray(found.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


def _bits(value: object) -> int | None:
    if value is None or (isinstance(value, int) and 8 <= value <= 16):
        return value
    raise ValueError(f"bits must be from 8 to 16, not {value!r}")


def _with_added_columns(table: pa.Table, written: int) -> pa.Table:
    for name, since in _ADDED_IN_FORMAT.items():
        if written < since and name not in table.column_names:
            place = SCHEMA.get_field_index(name)
            nothing = pa.nulls(table.num_rows, SCHEMA.field(place).type)
            table = table.add_column(place, name, nothing)
    return table


def _class_suggestion(name: str, classes: Sequence[str]) -> str:
    """The closest class names; of many classes only their number and one example."""
    if len(classes) > 100:
        return f"It knows {len(classes):,} others, such as {classes[0]!r}."
    return near_names(name, classes)


def is_saved_dataset(path: Path) -> bool:
    """Whether a file is a Parquet table that `Dataset.save` wrote."""
    if path.suffix.lower() != ".parquet" or not path.is_file():
        return False
    try:
        return b"acclimate.format" in (pq.read_schema(path).metadata or {})
    except (pa.ArrowException, OSError):
        return False
