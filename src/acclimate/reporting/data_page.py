"""The report's page about the data: what was found, with pictures."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from acclimate.cleaning.flags import FALSIFYING
from acclimate.data.dataset import FIX_FLAG, Dataset
from acclimate.reporting import figures
from acclimate.reporting.thumbnails import thumbnail

_MOST_SHOTS = 14
"""Pictures of a kind: enough to see what is meant, and all kinds together stay under 2 MB."""
_MOST_LABELS = 35
_MOST_CLUSTERS, _MOST_MEMBERS = 12, 6
_MOST_PAIRS = 12


@dataclass(frozen=True)
class Shot:
    """A picture with what is said about it.

    Attributes:
        image: A data URI.
        path: Of the file.
        title: The first line below it.
        said: The second.
    """

    image: str
    path: str
    title: str
    said: str


@dataclass(frozen=True)
class Kind:
    """One thing that was found, with its worst pictures.

    Attributes:
        name: For people.
        number: How many images.
        shots: Some of them.
    """

    name: str
    number: int
    shots: list[Shot]


@dataclass(frozen=True)
class DataPage:
    """All that the page shows.

    Attributes:
        falsifying: Leaks and conflicting labels, which falsify every figure that follows.
        labels: Labels that are probably wrong, the worst first.
        pairs: (given, suggested, how many), the most first.
        kinds: Everything else that was flagged.
        clusters: Near-duplicates side by side.
        numbers: (what was found, how often, how many of these are left out), as it is told.
        balance: Images of each class by split, SVG.
        sizes: Widths and heights, SVG; empty where none is known.
    """

    falsifying: list[Kind]
    labels: Kind
    pairs: list[tuple[str, str, int]]
    kinds: list[Kind]
    clusters: list[list[Shot]]
    numbers: list[tuple[str, int, int]]
    balance: str
    sizes: str


def data_page(dataset: Dataset) -> DataPage:
    """Looks through the columns that cleaning and inspection filled.

    Args:
        dataset: Cleaned.

    Returns:
        What the page shows. Files that are gone since are passed over.
    """
    columns = _Columns(dataset)
    flags = columns["flags"]
    together: dict[str, list[int]] = {}
    for row, found in enumerate(flags):
        for flag in found or []:
            together.setdefault(flag, []).append(row)
    names = sorted(together, key=_turn)
    numbers = [
        (_plain(flag), len(together[flag]), int((~dataset.keep[together[flag]]).sum()))
        for flag in names
    ]
    suspected = together.pop("label_error", [])
    kinds = {
        flag: Kind(
            _plain(flag), len(together[flag]), _worst(dataset, columns, flag, together[flag])
        )
        for flag in names
        if flag in together and not flag.startswith(FIX_FLAG)
    }
    splits = {split: dataset.counts(split) for split in ("train", "val", "test")}
    return DataPage(
        falsifying=[kind for flag, kind in kinds.items() if flag in FALSIFYING],
        labels=Kind("label error", len(suspected), _labels(dataset, columns, suspected)),
        pairs=_pairs(columns, suspected),
        kinds=[kind for flag, kind in kinds.items() if flag not in FALSIFYING],
        clusters=_clusters(dataset, columns),
        numbers=numbers,
        balance=figures.class_balance(splits),
        sizes=_sizes(columns),
    )


def _turn(flag: str) -> tuple[int, str]:
    """What falsifies figures first, in its order, then labels that may be wrong, then the rest."""
    if flag in FALSIFYING:
        return FALSIFYING.index(flag), flag
    return len(FALSIFYING) + (flag != "label_error"), flag


class _Columns:
    """Columns as lists, each read or reckoned once."""

    def __init__(self, dataset: Dataset) -> None:
        self._table = dataset.table
        self._read: dict[str, list[Any]] = {}

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self._read:
            reckon = _RECKONED.get(name)
            self._read[name] = self._table[name].to_pylist() if reckon is None else reckon(self)
        return self._read[name]


def _plain(flag: str) -> str:
    return flag.replace("_", " ")


def _aspects(columns: _Columns) -> list[float | None]:
    """The longer side in shorter ones."""
    sizes = zip(columns["width"], columns["height"], strict=True)
    return [max(w, h) / min(w, h) if w and h else None for w, h in sizes]


def _sizes_off(columns: _Columns) -> list[float | None]:
    """How many times larger or smaller than the median an image's side is."""
    sizes = zip(columns["width"], columns["height"], strict=True)
    sides = [(w * h) ** 0.5 if w and h else None for w, h in sizes]
    known = [side for side in sides if side is not None]
    median = float(np.median(known)) if known else 1.0
    return [None if side is None else max(side / median, median / side) for side in sides]


_RECKONED: dict[str, Callable[[_Columns], list[float | None]]] = {
    "aspect": _aspects,
    "size_off_median_by": _sizes_off,
}
_ORDER: dict[str, tuple[str, float]] = {
    "outlier": ("outlier", -1),
    "near_duplicate": ("near_duplicate", -1),
    "near_leak": ("near_duplicate", -1),
    "near_label_conflict": ("near_duplicate", -1),
    "dark": ("brightness", 1),
    "bright": ("brightness", -1),
    "low_contrast": ("contrast", 1),
    "blurred": ("sharpness", 1),
    "odd_aspect": ("aspect", -1),
    "odd_size": ("size_off_median_by", -1),
    "grey": ("color", 1),
}
"""Which column says how bad a flag is: 1 where less of it is worse, -1 where more is."""


def _worst(dataset: Dataset, columns: _Columns, flag: str, rows: Sequence[int]) -> list[Shot]:
    column, sign = _ORDER.get(flag, (None, 1.0))
    if column is None:
        return _shots(dataset, columns, rows, _MOST_SHOTS, lambda row: "")
    values = columns[column]
    ordered = sorted(rows, key=lambda row: sign * (values[row] if values[row] is not None else 0))

    def said(row: int) -> str:
        return "" if values[row] is None else f"{_plain(column)} {values[row]:.2f}"

    return _shots(dataset, columns, ordered, _MOST_SHOTS, said)


def _shots(
    dataset: Dataset,
    columns: _Columns,
    rows: Sequence[int],
    most: int,
    said: Callable[[int], str],
) -> list[Shot]:
    """The first of some rows whose files are still there."""
    found: list[Shot] = []
    for row in rows:
        if len(found) == most:
            break
        image = thumbnail(dataset.path(row))
        if image is not None:
            label = columns["label"][row]
            title = label if label is not None else "no label"
            if not dataset.keep[row]:
                title = f"{title} · left out"
            found.append(Shot(image, dataset.paths[row], title, said(row)))
    return found


def _labels(dataset: Dataset, columns: _Columns, rows: Sequence[int]) -> list[Shot]:
    scores, better, split = (columns[n] for n in ("label_error", "suggested_label", "split"))
    ordered = sorted(rows, key=lambda row: -(scores[row] or 0))

    def said(row: int) -> str:
        where = "" if split[row] in (None, "train") else f" · {split[row]}"
        return f"may be {better[row]} · {scores[row]:.2f}{where}"

    return _shots(dataset, columns, ordered, _MOST_LABELS, said)


def _pairs(columns: _Columns, rows: Sequence[int]) -> list[tuple[str, str, int]]:
    given, better = columns["label"], columns["suggested_label"]
    found = Counter((given[row], better[row]) for row in rows)
    return [(one, other, n) for (one, other), n in found.most_common(_MOST_PAIRS)]


def _clusters(dataset: Dataset, columns: _Columns) -> list[list[Shot]]:
    """The largest clusters first; those that cross splits or labels before all others."""
    cluster = columns["cluster"]
    members: dict[int, list[int]] = {}
    for row, number in enumerate(cluster):
        if number is not None and number >= 0:
            members.setdefault(number, []).append(row)
    copies: dict[str, list[int]] = {}
    places = {path: row for row, path in enumerate(dataset.paths)}
    for row, original in enumerate(columns["duplicate_of"]):
        if original is not None and cluster[row] is None and original in places:
            copies.setdefault(original, [places[original]]).append(row)
    groups = [rows for rows in [*members.values(), *copies.values()] if len(rows) > 1]

    def order(rows: list[int]) -> tuple[bool, int, int]:
        labels = {columns["label"][row] for row in rows}
        splits = {columns["split"][row] for row in rows}
        return (len(labels) < 2 and len(splits) < 2, -len(rows), rows[0])

    def said(row: int) -> str:
        return str(columns["split"][row] or "")

    shown = [
        _shots(dataset, columns, rows, _MOST_MEMBERS, said)
        for rows in sorted(groups, key=order)[:_MOST_CLUSTERS]
    ]
    return [shots for shots in shown if len(shots) > 1]


def _sizes(columns: _Columns) -> str:
    known = [
        (w, h) for w, h in zip(columns["width"], columns["height"], strict=True) if w is not None
    ]
    return figures.image_sizes(np.asarray(known, np.float64)) if known else ""
