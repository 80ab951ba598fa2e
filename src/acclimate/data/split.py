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
    own = _is_own(dataset)
    unassigned = np.flatnonzero(dataset.keep & (dataset.splits < 0) & (dataset.labels >= 0) & own)
    split_names = [None if s < 0 else SPLITS[s] for s in dataset.splits]
    # Another domain's test images judge elsewhere: they are no test split of the user's own.
    present = {name for name, own in zip(split_names, own, strict=True) if own} - {
        None,
        "unlabelled",
    }
    fractions = {"val": val, "test": test}
    missing = {name: fraction for name, fraction in fractions.items() if name not in present}
    if len(unassigned) and val + test < 1:
        _check_counts(dataset, unassigned)
    # A missing split is carved from all that may train: what has no split yet, and what trains.
    assignable = np.union1d(unassigned, dataset.rows("train")) if missing else unassigned
    _assign_groups(dataset, assignable, missing, split_names, seed)
    return dataset.with_columns({"split": split_names})


def _is_own(dataset: Dataset) -> np.ndarray:
    domain = dataset.table["domain"].to_pylist()
    return np.asarray([d == HOME for d in domain], bool)


def _check_counts(dataset: Dataset, rows: np.ndarray) -> None:
    """A class must have an image to learn from and one to be judged by."""
    counts = np.bincount(dataset.labels[rows], minlength=len(dataset.classes))
    own = dataset.rows()
    labels = dataset.labels[own]
    all_counts = np.bincount(labels[labels >= 0], minlength=len(dataset.classes))
    single = [
        name
        for name, n, all_ in zip(dataset.classes, counts, all_counts, strict=True)
        if n == 1 and all_ == 1
    ]
    if single:
        raise DataError(
            f"{count(len(single), 'class has', 'classes have')} a single usable image: "
            f"{listed(single)}.",
            where=dataset.root,
            hint="Add images, or leave them out with --set data.leave_out_classes=[...].",
        )


def _assign_groups(
    dataset: Dataset,
    rows: np.ndarray,
    fractions: dict[str, float],
    split_names: list[str | None],
    seed: int,
) -> None:
    """Deals the groups out; what is left over trains.

    A group (an image without one is its own) goes whole to the split that its classes need most.
    A group that stands in a split already draws its new images there.
    """
    rng = np.random.default_rng(seed)
    groups = _groups(dataset)
    groups_left = _blocks(rows, groups)
    fixed = _fixed_splits(groups, split_names, set(rows.tolist()))
    needed = {name: _target_counts(dataset, rows, fraction) for name, fraction in fractions.items()}
    remaining = np.bincount(dataset.labels[rows], minlength=len(dataset.classes))
    train_counts = np.zeros_like(remaining)
    # Large groups first: they are the ones that may not fit later.
    order = sorted(rng.permutation(len(groups_left)), key=lambda i: -len(groups_left[i].rows))
    for index in order:
        block = groups_left[index]
        labels = np.bincount(dataset.labels[block.rows], minlength=len(dataset.classes))
        target = fixed.get(block.group) if block.group is not None else None
        if target is None:
            # A class that would have nothing to learn from gives its last group to train.
            last_group = (remaining <= labels) & (labels > 0) & (train_counts == 0)
            to_train = last_group.any() and sum(fractions.values()) < 1
            target = "train" if to_train else _best_split(needed, labels)
        if target in needed:
            needed[target] = needed[target] - labels
        elif target == "train":
            train_counts = train_counts + labels
        remaining = remaining - labels
        for row in block.rows:
            split_names[row] = target


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
    parent_of: dict[tuple[int, object], tuple[int, object]] = {}

    def find_root(key: tuple[int, object]) -> tuple[int, object]:
        while parent_of.setdefault(key, key) != key:
            parent_of[key] = parent_of[parent_of[key]]
            key = parent_of[key]
        return key

    keys = [
        [(kind, value) for kind, value in enumerate(values) if value is not None]
        for values in zip(*shared, strict=True)
    ]
    for own in keys:
        for key in own:
            parent_of[find_root(key)] = find_root(own[0])
    numbers: dict[tuple[int, object], int] = {}
    return [numbers.setdefault(find_root(own[0]), len(numbers)) if own else None for own in keys]


def _blocks(rows: np.ndarray, groups: Sequence[int | None]) -> list[_Block]:
    members_of: dict[int, list[int]] = defaultdict(list)
    singles = []
    for row in rows.tolist():
        group = groups[row]
        if group is None:
            singles.append(_Block(None, [row]))
        else:
            members_of[group].append(row)
    return [*(_Block(group, members) for group, members in members_of.items()), *singles]


def _fixed_splits(
    groups: Sequence[int | None], split_names: list[str | None], moving: set[int]
) -> dict[int, str]:
    """Where each group stands that was given a split; what judges comes first."""
    counts: dict[int, str] = {}
    for split_name in ("train", "val", "test"):
        for row, group in enumerate(groups):
            if group is not None and split_names[row] == split_name and row not in moving:
                counts[group] = split_name
    return counts


def _target_counts(dataset: Dataset, rows: np.ndarray, fraction: float) -> np.ndarray:
    """Images of each class that a split wants: its share, and at least one where two are left."""
    total = np.bincount(dataset.labels[rows], minlength=len(dataset.classes))
    if fraction >= 1:
        return total
    share = np.round(fraction * total).astype(np.int64)
    return np.where((total >= 3) & (fraction > 0), np.maximum(share, 1), share)


def _best_split(needed: dict[str, np.ndarray], labels: np.ndarray) -> str:
    """The split whose need this group fits best, or train."""
    present = labels > 0
    fits = {name: int(np.minimum(needed[name], labels).sum()) for name in needed}
    best = max(fits, key=lambda name: (fits[name], needed[name][present].sum()), default="train")
    # More of the group must be wanted than not, or large groups would flood a small split.
    return best if fits and 2 * fits[best] >= labels.sum() and fits[best] > 0 else "train"
