"""Who is trained on, who chooses, who judges."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from acclimate.data.dataset import HOME, SPLITS, Dataset
from acclimate.errors import DataError, count, listed


def split(dataset: Dataset, *, val: float, test: float, seed: int) -> Dataset:
    """Gives a split to every kept, labelled image that has none, and a val split where none is.

    Stratified by class. Images of one group, and near-duplicates of one cluster, stay on one side.
    Given splits are kept: the test split is never made into a val split, and val is carved from
    train only.

    Args:
        dataset: Cleaned: rows that are not kept get no split.
        val: Fraction of the images that chooses (learning rate, best epoch, pruning).
        test: Fraction that judges; read by evaluation alone.
        seed: Which images go where.

    Returns:
        The data set with its splits filled.

    Raises:
        DataError: A class has too few images to be split.
    """
    home = _at_home(dataset)
    free = np.flatnonzero(dataset.keep & (dataset.splits < 0) & (dataset.labels >= 0) & home)
    names = [None if s < 0 else SPLITS[s] for s in dataset.splits]
    # Another domain's test images judge elsewhere: they are no test split of the user's own.
    has = {name for name, own in zip(names, home, strict=True) if own} - {None, "unlabelled"}
    fractions = {"val": val, "test": test}
    missing = {name: fraction for name, fraction in fractions.items() if name not in has}
    if len(free) and val + test < 1:
        _check_counts(dataset, free)
    # A missing split is carved from all that may train: what has no split yet, and what trains.
    dealt = np.union1d(free, dataset.rows("train")) if missing else free
    _assign(dataset, dealt, missing, names, seed)
    return dataset.with_columns({"split": names})


def _at_home(dataset: Dataset) -> np.ndarray:
    domain = dataset.table["domain"].to_pylist()
    return np.asarray([d == HOME for d in domain], bool)


def _check_counts(dataset: Dataset, rows: np.ndarray) -> None:
    """A class must have an image to learn from and one to be judged by."""
    found = np.bincount(dataset.labels[rows], minlength=len(dataset.classes))
    home = dataset.rows()
    labels = dataset.labels[home]
    there = np.bincount(labels[labels >= 0], minlength=len(dataset.classes))
    single = [
        name
        for name, n, all_ in zip(dataset.classes, found, there, strict=True)
        if n == 1 and all_ == 1
    ]
    if single:
        raise DataError(
            f"{count(len(single), 'class has', 'classes have')} a single usable image: "
            f"{listed(single)}.",
            where=dataset.root,
            hint="Add images, or leave them out with --set data.leave_out_classes=[...].",
        )


def _assign(
    dataset: Dataset,
    rows: np.ndarray,
    fractions: dict[str, float],
    names: list[str | None],
    seed: int,
) -> None:
    """Deals the groups out; what is left over trains.

    A group (an image without one is its own) goes whole to the split that its classes need most.
    A group that stands in a split already draws its new images there.
    """
    rng = np.random.default_rng(seed)
    groups = _groups(dataset)
    blocks = _blocks(rows, groups)
    sides = _sides(groups, names, set(rows.tolist()))
    need = {name: _wanted(dataset, rows, fraction) for name, fraction in fractions.items()}
    left = np.bincount(dataset.labels[rows], minlength=len(dataset.classes))
    trained = np.zeros_like(left)
    # Large groups first: they are the ones that may not fit later.
    order = sorted(rng.permutation(len(blocks)), key=lambda i: -len(blocks[i].rows))
    for index in order:
        block = blocks[index]
        labels = np.bincount(dataset.labels[block.rows], minlength=len(dataset.classes))
        side = sides.get(block.group) if block.group is not None else None
        if side is None:
            # A class that would have nothing to learn from gives its last group to train.
            last = (left <= labels) & (labels > 0) & (trained == 0)
            kept = last.any() and sum(fractions.values()) < 1
            side = "train" if kept else _neediest(need, labels)
        if side in need:
            need[side] = need[side] - labels
        elif side == "train":
            trained = trained + labels
        left = left - labels
        for row in block.rows:
            names[row] = side


@dataclass(frozen=True)
class _Block:
    """Images that stay together."""

    group: int | None
    rows: list[int]


def _groups(dataset: Dataset) -> list[int | None]:
    """What must stay together: images that share a group or a cluster, and those they share with.

    A group that holds near-duplicates of another group's images is one with it.
    """
    shared = [dataset.table[name].to_pylist() for name in ("group", "cluster")]
    parents: dict[tuple[int, object], tuple[int, object]] = {}

    def top(key: tuple[int, object]) -> tuple[int, object]:
        while parents.setdefault(key, key) != key:
            parents[key] = parents[parents[key]]
            key = parents[key]
        return key

    keys = [
        [(kind, value) for kind, value in enumerate(values) if value is not None]
        for values in zip(*shared, strict=True)
    ]
    for own in keys:
        for key in own:
            parents[top(key)] = top(own[0])
    numbers: dict[tuple[int, object], int] = {}
    return [numbers.setdefault(top(own[0]), len(numbers)) if own else None for own in keys]


def _blocks(rows: np.ndarray, groups: Sequence[int | None]) -> list[_Block]:
    together: dict[int, list[int]] = defaultdict(list)
    alone = []
    for row in rows.tolist():
        group = groups[row]
        if group is None:
            alone.append(_Block(None, [row]))
        else:
            together[group].append(row)
    return [*(_Block(group, members) for group, members in together.items()), *alone]


def _sides(
    groups: Sequence[int | None], names: list[str | None], moving: set[int]
) -> dict[int, str]:
    """Where each group stands that was given a split; what judges comes first."""
    found: dict[int, str] = {}
    for split_name in ("train", "val", "test"):
        for row, group in enumerate(groups):
            if group is not None and names[row] == split_name and row not in moving:
                found[group] = split_name
    return found


def _wanted(dataset: Dataset, rows: np.ndarray, fraction: float) -> np.ndarray:
    """Images of each class that a split wants: its share, and at least one where two are left."""
    total = np.bincount(dataset.labels[rows], minlength=len(dataset.classes))
    if fraction >= 1:
        return total
    share = np.round(fraction * total).astype(np.int64)
    return np.where((total >= 3) & (fraction > 0), np.maximum(share, 1), share)


def _neediest(need: dict[str, np.ndarray], labels: np.ndarray) -> str:
    """The split whose need this group fits best, or train."""
    present = labels > 0
    fits = {name: int(np.minimum(need[name], labels).sum()) for name in need}
    best = max(fits, key=lambda name: (fits[name], need[name][present].sum()), default="train")
    # More of the group must be wanted than not, or large groups would flood a small split.
    return best if fits and 2 * fits[best] >= labels.sum() and fits[best] > 0 else "train"
