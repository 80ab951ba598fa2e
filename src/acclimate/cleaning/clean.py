"""The cleaning stage: checks every image once, drops what cannot be used, splits the rest."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from acclimate.cleaning import quality, unreadable
from acclimate.cleaning.duplicates import exact, near
from acclimate.cleaning.findings import Check, Flag
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import Dataset, is_saved_dataset
from acclimate.data.settings import Source
from acclimate.data.sources.read import read
from acclimate.data.split import split
from acclimate.errors import DataError, count

_DEFAULT = Clean()
_SOURCE = Source()
_HERE = Context()


def clean(dataset: Dataset, settings: Clean = _DEFAULT, *, context: Context = _HERE) -> Dataset:
    """Decides which images are kept, and assigns a split to those without one.

    No file is moved, changed or deleted: a dropped image is a row with `keep=False` and its
    reasons.

    Args:
        dataset: As returned by `read`.
        settings: Which checks run, what they drop, and how the rest is split.
        context: The run.

    Returns:
        The same rows, checked and split.

    Raises:
        DataError: A class has no usable image, or there is none at all.
    """
    for name in settings.checks:
        dataset = CHECKS[name].run(dataset, settings, context)
    # Thumbnails are needed during cleaning only; they are not saved.
    dataset = dataset.with_columns({"thumbnail": [None] * len(dataset)})
    _check_usable(dataset)
    dataset = split(dataset, val=settings.val, test=settings.test, seed=context.seed_for("split"))
    left_out = int((~dataset.keep).sum())
    context.progress.info(
        f"clean: {count(int(dataset.keep.sum()), 'image')} of "
        f"{count(len(dataset.classes), 'class', 'classes')} kept, {left_out:,} left out"
    )
    for empty in _empty_splits(dataset, settings):
        context.progress.info(f"clean: no image is left for {empty}")
    for reason in drop_reasons(dataset, 10):
        context.progress.info(f"  {reason}")
    if flag_counts := _flag_counts(dataset):
        context.progress.info(f"clean: kept and flagged: {flag_counts}")
    return dataset


def _empty_splits(dataset: Dataset, settings: Clean) -> list[str]:
    """Splits that should have images and got none: there are too few images or groups."""
    if not (dataset.keep & (dataset.labels >= 0)).any():
        return []
    wanted = {"train": settings.test < 1, "val": settings.val > 0, "test": settings.test > 0}
    return [name for name, requested in wanted.items() if requested and not len(dataset.rows(name))]


def load_or_clean(
    place: Path,
    *,
    source: Source = _SOURCE,
    settings: Clean = _DEFAULT,
    context: Context = _HERE,
) -> Dataset:
    """Loads a saved data set, or reads, cleans and splits images.

    Args:
        place: A saved data set, a folder, an archive or a list.
        source: How a folder, archive or list is read.
        settings: How it is cleaned and split.
        context: The run.

    Returns:
        A data set with splits.

    Raises:
        DataError: There is no usable image.
    """
    if is_saved_dataset(place):
        return Dataset.load(place)
    return clean(read(place, source), settings, context=context)


def drop_reasons(dataset: Dataset, most: int) -> list[str]:
    """Lists the first dropped images, each with its reason.

    Args:
        dataset: Cleaned.
        most: The largest number of images to list.

    Returns:
        Lines such as "roses/12.jpg: file is empty (0 bytes)"; the last one counts the rest.
    """
    flags = dataset.table["flags"].to_pylist()
    # Leaks and label conflicts first, then the order of the table.
    rows = sorted(
        np.flatnonzero(~dataset.keep).tolist(),
        key=lambda row: severity(flags[row]) is None,
    )
    reasons = [_with_reason(row, dataset) for row in rows[:most]]
    if len(rows) > most:
        reasons.append(f"… and {len(rows) - most:,} more")
    return reasons


def _flag_counts(dataset: Dataset) -> str:
    """How many kept images have which flag, such as "3 dark, 2 blurred"."""
    flags = dataset.table["flags"].to_pylist()
    found = Counter(flag for row in np.flatnonzero(dataset.keep) for flag in flags[row] or ())
    return ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in found.most_common())


def _check_usable(dataset: Dataset) -> None:
    if not dataset.keep.any():
        none = f"none of the {len(dataset):,} files here is a usable image"
        message = none if len(dataset) > 1 else "the only file here is not a usable image"
        reasons = "; ".join(drop_reasons(dataset, 3))
        raise DataError(f"{message}: {reasons}.", where=dataset.shown_root)
    own_rows = dataset.rows()
    kept = np.bincount(
        dataset.labels[own_rows][dataset.labels[own_rows] >= 0], minlength=len(dataset.classes)
    )
    empty = [name for name, n in zip(dataset.classes, kept, strict=True) if n == 0]
    if empty:
        message = "; ".join(_without_images(name, dataset) for name in empty[:3])
        raise DataError(
            f"no usable image is left of {count(len(empty), 'class', 'classes')}: {message}.",
            where=dataset.shown_root,
            hint="Repair the images, or leave the class out with "
            "--set data.leave_out_classes=[...].",
        )


def _without_images(name: str, dataset: Dataset) -> str:
    """A class, with the reason why its first dropped image cannot be used."""
    dropped = np.flatnonzero((dataset.labels == dataset.classes.index(name)) & ~dataset.keep)
    if not len(dropped):  # all its images belong to other domains
        return repr(name)
    return f"{name!r} ({_with_reason(int(dropped[0]), dataset)})"


def _with_reason(row: int, dataset: Dataset) -> str:
    return f"{dataset.paths[row]}: {'; '.join(dataset.table['reasons'][row].as_py())}"


CHECKS: dict[str, Check] = {
    "unreadable": unreadable.CHECK,
    "duplicates": exact.CHECK,
    "near_duplicates": near.CHECK,
    "quality": quality.CHECK,
}
"""All checks, in the order in which they run by default."""
FLAGS: dict[str, Flag] = {flag.name: flag for check in CHECKS.values() for flag in check.flags}
"""All flags that the checks may set."""


def severity(flags: Sequence[str] | None) -> int | None:
    """The rank of an image's worst flag that makes every later metric wrong.

    Args:
        flags: The image's flags.

    Returns:
        0 for the worst; None if there is no such flag.
    """
    ranks = [FLAGS[flag].severity for flag in flags or () if flag in FLAGS]
    return min((rank for rank in ranks if rank is not None), default=None)
