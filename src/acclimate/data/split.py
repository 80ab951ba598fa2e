"""Who is trained on, who chooses, who judges."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from acclimate.data.dataset import HOME, SPLITS, Dataset
from acclimate.errors import DataError, count


def split(dataset: Dataset, *, val: float, test: float, seed: int) -> Dataset:
    """Gives a split to every kept, labelled image that has none, and a val split where none is.

    Stratified by class. Images of one group stay on one side. Given splits are kept: the test
    split is never made into a val split, and val is carved from train only.

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
    free = np.flatnonzero(
        dataset.keep & (dataset.splits < 0) & (dataset.labels >= 0) & _at_home(dataset)
    )
    names = [None if s < 0 else SPLITS[s] for s in dataset.splits]
    has = set(names) - {None, "unlabelled"}
    if len(free):
        if val + test < 1:
            _check_counts(dataset, free)
        fractions = {"val": val, "test": test}
        _assign(dataset, free, {k: f for k, f in fractions.items() if k not in has}, names, seed)
    elif "train" in has:
        train = dataset.rows("train")
        missing = {k: f for k, f in {"val": val, "test": test}.items() if k not in has}
        _assign(dataset, train, missing, names, seed)
    return dataset.with_columns({"split": names})


def _at_home(dataset: Dataset) -> np.ndarray:
    domain = dataset.table["domain"].to_pylist()
    return np.asarray([d == HOME for d in domain], bool)


def _check_counts(dataset: Dataset, rows: np.ndarray) -> None:
    found = np.bincount(dataset.labels[rows], minlength=len(dataset.classes))
    single = [name for name, n in zip(dataset.classes, found, strict=True) if n == 1]
    if single:
        shown = ", ".join(repr(n) for n in single[:5]) + (", …" if len(single) > 5 else "")
        raise DataError(
            f"{count(len(single), 'class has', 'classes have')} a single usable image: {shown}.",
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
    """Deals each class's groups out, largest need first; what is left over trains."""
    rng = np.random.default_rng(seed)
    groups = dataset.table["group"].to_pylist()
    for label in range(len(dataset.classes)):
        members = rows[dataset.labels[rows] == label]
        blocks = _blocks(members, groups)
        order = rng.permutation(len(blocks))
        remaining = [blocks[i] for i in order]
        total = len(members)
        for name, fraction in fractions.items():
            # At least one image where two stay for training: a class absent from val is not seen.
            wanted = max(round(fraction * total), 1 if fraction > 0 and total >= 3 else 0)
            wanted = total if fraction >= 1 else wanted
            while wanted > 0 and remaining and (len(remaining) > 1 or fraction >= 1):
                block = remaining.pop()
                wanted -= len(block)
                for row in block:
                    names[row] = name
        for block in remaining:
            for row in block:
                names[row] = "train"


def _blocks(members: np.ndarray, groups: Sequence[str | None]) -> list[list[int]]:
    together: dict[str, list[int]] = defaultdict(list)
    for row in members.tolist():
        group = groups[row]
        together[f"g{group}" if group is not None else f"r{row}"].append(row)
    return list(together.values())
