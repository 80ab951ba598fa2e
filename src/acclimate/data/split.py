"""Assigns images to train, val and test."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from acclimate.data.dataset import SPLITS, Dataset
from acclimate.data.linked import is_own, linked_images
from acclimate.errors import DataError, count, listed


def split(dataset: Dataset, *, val: float, test: float, seed: int) -> Dataset:
    """Assigns a split to every kept, labelled image without one, and makes a missing val or test.

    The split is stratified by class. Images of one group, and near-duplicates of one cluster,
    stay in the same split. A given val or test stays exactly as it is given; a missing one is
    taken from train only, and never from groups that are in the given one too.

    Args:
        dataset: Cleaned. Dropped rows get no split.
        val: Fraction of the images for val, which choices are made on.
        test: Fraction of the images for test, which only evaluation reads.
        seed: For the random assignment.

    Returns:
        The data set with its splits filled.

    Raises:
        DataError: A class has too few images to be split.
    """
    own = is_own(dataset)
    unassigned = np.flatnonzero(dataset.keep & (dataset.splits < 0) & (dataset.labels >= 0) & own)
    split_names = [None if s < 0 else SPLITS[s] for s in dataset.splits]
    # Test images of another domain are not a test split of the user's own images.
    present = {SPLITS[s] for s in dataset.splits[own & (dataset.splits >= 0)]}
    fractions = {"val": val, "test": test}
    missing = {name: fraction for name, fraction in fractions.items() if name not in present}
    if len(unassigned) and val + test < 1:
        _check_counts(dataset, unassigned)
    # A missing split is taken from the images without a split and from train.
    assignable = np.union1d(unassigned, dataset.rows("train")) if missing else unassigned
    _assign_groups(dataset, assignable, missing, split_names, seed)
    return dataset.with_columns({"split": split_names})


def _check_counts(dataset: Dataset, rows: np.ndarray) -> None:
    """Refuses a class with a single image: it cannot be both trained on and evaluated."""
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
            where=dataset.shown_root,
            hint="Add images, or leave them out with --set data.leave_out_classes=[...].",
        )


def _assign_groups(
    dataset: Dataset,
    rows: np.ndarray,
    fractions: dict[str, float],
    split_names: list[str | None],
    seed: int,
) -> None:
    """Assigns whole groups to splits; the rest goes to train.

    A group (or a single image without one) goes to the split that needs its classes most. A group
    with images in a given val or test stays in train.
    """
    rng = np.random.default_rng(seed)
    groups = linked_images(dataset, look_alikes=True)
    groups_left = _blocks(rows, groups)
    crossing = {
        group
        for row in np.flatnonzero(dataset.keep)
        if (group := groups[row]) is not None and split_names[row] in ("val", "test")
    }
    needed = {name: _target_counts(dataset, rows, fraction) for name, fraction in fractions.items()}
    remaining = np.bincount(dataset.labels[rows], minlength=len(dataset.classes))
    train_counts = np.zeros_like(remaining)
    # Large groups first, since they may not fit later.
    order = sorted(rng.permutation(len(groups_left)), key=lambda i: -len(groups_left[i].rows))
    for index in order:
        block = groups_left[index]
        labels = np.bincount(dataset.labels[block.rows], minlength=len(dataset.classes))
        # The last group of a class without training images goes to train.
        last_group = (remaining <= labels) & (labels > 0) & (train_counts == 0)
        to_train = last_group.any() and sum(fractions.values()) < 1
        target = "train" if block.group in crossing or to_train else _best_split(needed, labels)
        if target in needed:
            needed[target] = needed[target] - labels
        else:
            train_counts = train_counts + labels
        remaining = remaining - labels
        for row in block.rows:
            split_names[row] = target


@dataclass(frozen=True)
class _Block:
    """Images that stay in one split."""

    group: int | None
    rows: list[int]


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


def _target_counts(dataset: Dataset, rows: np.ndarray, fraction: float) -> np.ndarray:
    """Target number of images per class: the fraction, and at least one if two remain."""
    total = np.bincount(dataset.labels[rows], minlength=len(dataset.classes))
    if fraction >= 1:
        return total
    share = np.round(fraction * total).astype(np.int64)
    return np.where((total >= 3) & (fraction > 0), np.maximum(share, 1), share)


def _best_split(needed: dict[str, np.ndarray], labels: np.ndarray) -> str:
    """The split that needs this group most, or train."""
    present = labels > 0
    fits = {name: int(np.minimum(needed[name], labels).sum()) for name in needed}
    best = max(fits, key=lambda name: (fits[name], needed[name][present].sum()), default="train")
    # At least half of the group must be needed, or large groups would flood a small split.
    return best if fits and 2 * fits[best] >= labels.sum() and fits[best] > 0 else "train"
