"""What cleaning found, in a few lines: each image once, the worst findings first."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from acclimate.cleaning.checks import FLAGS, severity
from acclimate.cleaning.findings import Flag, cleaning_notes
from acclimate.cleaning.twins import Twins
from acclimate.data.dataset import FIX_FLAG_PREFIX, HOME, SPLITS, Dataset, Rows
from acclimate.data.sources.fix_list import DROPPED_REASON
from acclimate.errors import count

_LEFT_OUT_SHOWN, _KEPT_SHOWN = 5, 3
"""Images listed of each kind."""
_UNREADABLE, _FIX_LIST = "unreadable", "fix_list"


@dataclass(frozen=True)
class Kind:
    """Images that were left out, or flagged, for the same reason.

    Attributes:
        flag: The flag; "unreadable" or "fix_list" for images that were left out without one.
        rows: The images, the worst first.
        left_out: Whether they were left out.
    """

    flag: str
    rows: list[int]
    left_out: bool

    @property
    def name(self) -> str:
        """For people."""
        return readable(self.flag)


class Columns:
    """Columns of a table as lists, each read or computed once.

    Args:
        dataset: Its table.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._table = dataset.table
        self._read: dict[str, list[Any]] = {}

    def __contains__(self, name: str) -> bool:
        """Whether there is such a column."""
        return name in self._table.column_names

    def __getitem__(self, name: str) -> list[Any]:
        """The values of a column."""
        if name not in self._read:
            compute = _COMPUTED.get(name)
            self._read[name] = self._table[name].to_pylist() if compute is None else compute(self)
        return self._read[name]


def _aspects(columns: Columns) -> list[float | None]:
    """Longer side divided by shorter side."""
    sizes = zip(columns["width"], columns["height"], strict=True)
    return [max(w, h) / min(w, h) if w and h else None for w, h in sizes]


def _sizes_off(columns: Columns) -> list[float | None]:
    """How many times larger or smaller than the median each image is, by side."""
    sizes = zip(columns["width"], columns["height"], strict=True)
    sides = [(w * h) ** 0.5 if w and h else None for w, h in sizes]
    known = [side for side in sides if side is not None]
    median = float(np.median(known)) if known else 1.0
    return [None if side is None else max(side / median, median / side) for side in sides]


_COMPUTED: dict[str, Callable[[Columns], list[float | None]]] = {
    "aspect": _aspects,
    "size_off_median_by": _sizes_off,
}


def readable(flag: str) -> str:
    """A flag for people."""
    return flag.replace("_", " ")


def worst_first(columns: Columns, flag: str, rows: Sequence[int]) -> list[int]:
    """Orders the images with a flag by the flag's measure.

    Args:
        columns: Of the data set.
        flag: The flag.
        rows: The images.

    Returns:
        The same rows.
    """
    measure = _measure(columns, flag)
    if measure is None:
        return list(rows)
    values, sign = columns[measure], 1 if flag in FLAGS and FLAGS[flag].lowest_first else -1
    return sorted(rows, key=lambda row: sign * (values[row] if values[row] is not None else 0))


def measured(columns: Columns, flag: str, row: int) -> str:
    """The measure of a flag and its value for one image, or nothing: "sharpness 0.12"."""
    measure = _measure(columns, flag)
    if measure is None or columns[measure][row] is None:
        return ""
    return f"{readable(measure)} {columns[measure][row]:.2f}"


def _measure(columns: Columns, flag: str) -> str | None:
    return (FLAGS.get(flag) or Flag(flag, worst_by=flag if flag in columns else None)).worst_by


def kinds(dataset: Dataset, rows: Rows | None = None) -> list[Kind]:
    """Sorts the images that were left out or flagged by their worst finding, each under one.

    Args:
        dataset: Cleaned.
        rows: Which images; all by default.

    Returns:
        First those that were left out, then those that were kept; the worst kinds first.
    """
    columns = Columns(dataset)
    found: dict[tuple[bool, str], list[int]] = {}
    for row in range(len(dataset)) if rows is None else rows.tolist():
        left_out = not dataset.keep[row]
        flag = _kind(columns, row) if left_out else _worst(columns["flags"][row])
        if flag is not None:
            found.setdefault((not left_out, flag), []).append(row)
    ordered = sorted(found, key=lambda key: (key[0], _order(key[1])))
    return [
        Kind(flag, worst_first(columns, flag, found[kept, flag]), not kept)
        for kept, flag in ordered
    ]


def _own(flags: Sequence[str] | None) -> list[str]:
    return [flag for flag in flags or () if not flag.startswith(FIX_FLAG_PREFIX)]


def _kind(columns: Columns, row: int) -> str:
    """Why an image was left out: the flag that dropped it is the first one."""
    reasons = columns["reasons"][row] or [""]
    if reasons[0].startswith(DROPPED_REASON):
        return _FIX_LIST
    return next(iter(_own(columns["flags"][row])), _UNREADABLE)


def _worst(flags: Sequence[str] | None) -> str | None:
    return min(_own(flags), key=_order, default=None)


def _order(flag: str) -> tuple[int, int]:
    """Sort key: what makes every metric wrong, unreadable images, then the rest."""
    rank = severity([flag])
    if rank is not None:
        return 0, rank
    names = [_UNREADABLE, *FLAGS]
    return 1, names.index(flag) if flag in names else len(names)


def summary(dataset: Dataset) -> list[str]:
    """The findings of cleaning as lines: those about the whole data set, then a few images of each.

    Args:
        dataset: Cleaned and split.

    Returns:
        The lines. The numbers of the kinds add up to the number of images left out or flagged.
    """
    found = kinds(dataset)
    parts = {left_out: [k for k in found if k.left_out == left_out] for left_out in (True, False)}
    totals = {left_out: sum(len(k.rows) for k in some) for left_out, some in parts.items()}
    lines = cleaning_notes(dataset)
    kept = count(int(dataset.keep.sum()), "image")
    classes = count(len(dataset.classes), "class", "classes")
    splits = ", ".join(f"{n:,} {name}" for name, n in split_sizes(dataset).items())
    lines.append(f"clean: {kept} of {classes} kept ({splits}), {totals[True]:,} left out")
    lines += _listed(dataset, parts[True])
    if parts[False]:
        flagged = "image that is kept is" if totals[False] == 1 else "images that are kept are"
        lines.append(f"clean: {totals[False]:,} {flagged} flagged")
        lines += _listed(dataset, parts[False])
    return lines


def split_sizes(dataset: Dataset) -> dict[str, int]:
    """The number of kept images of each split, test domains by themselves.

    Args:
        dataset: Split.

    Returns:
        Such as {"train": 140, "test": 40, "test (night)": 12}; together, all kept images.
    """
    sizes = {
        name if domain == HOME else f"{name} ({domain})": len(dataset.rows(name, domain))
        for domain in dataset.domains
        for name in SPLITS
    }
    sizes["without a split"] = int(dataset.keep.sum()) - sum(sizes.values())
    return {name: n for name, n in sizes.items() if n}


def as_record(dataset: Dataset) -> dict[str, Any]:
    """The findings as JSON.

    Args:
        dataset: Cleaned.

    Returns:
        Numbers of images. Those of `left_out` add up; an image may have several of `flags`.
    """
    found = kinds(dataset)
    flags = Counter(f for some in dataset.table["flags"].to_pylist() for f in set(_own(some)))
    return {
        "images": len(dataset),
        "kept": int(dataset.keep.sum()),
        "splits": split_sizes(dataset),
        "left_out": {kind.flag: len(kind.rows) for kind in found if kind.left_out},
        "flags": dict(sorted(flags.items(), key=lambda item: _order(item[0]))),
        "notes": list(dataset.notes),
    }


def _listed(dataset: Dataset, found: list[Kind]) -> list[str]:
    """For each kind a line with its number, and lines for its worst images."""
    columns, twins, lines = Columns(dataset), Twins(dataset), []
    for kind in found:
        most = _LEFT_OUT_SHOWN if kind.left_out else _KEPT_SHOWN
        lines.append(f"  {kind.name}: {len(kind.rows):,}")
        lines += [f"    {_line(dataset, columns, twins, kind, row)}" for row in kind.rows[:most]]
    return lines


def _line(dataset: Dataset, columns: Columns, twins: Twins, kind: Kind, row: int) -> str:
    if kind.left_out:
        return with_reason(row, dataset)
    text = twins.sentence(kind.flag, row) or measured(columns, kind.flag, row)
    return f"{dataset.paths[row]}: {text}" if text else dataset.paths[row]


def drop_reasons(dataset: Dataset, most: int) -> list[str]:
    """Lists the first dropped images, each with its reason.

    Args:
        dataset: Cleaned.
        most: The largest number of images to list.

    Returns:
        Lines such as "roses/12.jpg: file is empty (0 bytes)", the worst first; the last one counts
        the rest.
    """
    rows = [row for kind in kinds(dataset) if kind.left_out for row in kind.rows]
    reasons = [with_reason(row, dataset) for row in rows[:most]]
    if len(rows) > most:
        reasons.append(f"… and {len(rows) - most:,} more")
    return reasons


def with_reason(row: int, dataset: Dataset) -> str:
    """A dropped image with its reasons."""
    return f"{dataset.paths[row]}: {'; '.join(dataset.table['reasons'][row].as_py())}"
