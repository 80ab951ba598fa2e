"""The cleaning stage: checks every image once, drops what cannot be used, splits the rest."""

from pathlib import Path

import numpy as np

from acclimate.cleaning.checks import CHECKS
from acclimate.cleaning.findings import cleaning_notes, with_note, without_notes
from acclimate.cleaning.series import find_series, shared_series
from acclimate.cleaning.settings import Clean
from acclimate.cleaning.summary import drop_reasons, kinds, summary, with_reason
from acclimate.context import Context
from acclimate.data.dataset import SPLITS, Dataset, is_saved_dataset
from acclimate.data.linked import is_own
from acclimate.data.settings import Source
from acclimate.data.sources.read import read
from acclimate.data.sources.row import OUTSIDE
from acclimate.data.split import split
from acclimate.errors import DataError, count, listed

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
    given = dataset
    dataset = without_notes(dataset)
    for name in settings.checks:
        dataset = CHECKS[name].run(dataset, settings, context)
    _check_usable(dataset, context)
    series = find_series(dataset, context.seed_for("series"))
    dataset = split(dataset, val=settings.val, test=settings.test, seed=context.seed_for("split"))
    # Thumbnails are needed during cleaning only; they are not saved.
    dataset = dataset.with_columns({"thumbnail": [None] * len(dataset)})
    if series is not None and (sentence := shared_series(dataset, series)):
        dataset = with_note(dataset, sentence, first=True)
    for line in summary(dataset):
        context.progress.info(line)
    _check_train(given, dataset, settings)
    for empty in _empty_splits(dataset, settings):
        context.progress.info(f"clean: no image is left for {empty}")
    return dataset


def _check_train(given: Dataset, dataset: Dataset, settings: Clean) -> None:
    """Refuses data with images to train on of which none is left."""
    to_train = np.isin(given.splits, (-1, SPLITS.index("train"))) & (given.labels >= 0)
    rows = np.flatnonzero(to_train & is_own(given))
    evaluation_only = settings.val >= 1 or settings.test >= 1
    if evaluation_only or not len(rows) or len(dataset.rows("train")):
        return
    if dataset.keep[rows].any():
        raise DataError(
            f"a val of {settings.val:g} and a test of {settings.test:g} leave no image for train.",
            where=dataset.shown_root,
            hint="Lower clean.val or clean.test.",
        )
    reasons = ", ".join(f"{kind.name}: {len(kind.rows):,}" for kind in kinds(dataset, rows))
    raise DataError(
        f"no image is left for train: all {len(rows):,} are left out ({reasons}).",
        where=dataset.shown_root,
        hint="Split the data by whole groups, or take a flag out of clean.drop to keep its images.",
    )


def _empty_splits(dataset: Dataset, settings: Clean) -> list[str]:
    """Splits that should have images and got none: there are too few images or groups."""
    if not (dataset.keep & (dataset.labels >= 0)).any():
        return []
    wanted = {"train": settings.test < 1, "val": settings.val > 0, "test": settings.test > 0}
    empty = [
        name for name, requested in wanted.items() if requested and not len(dataset.rows(name))
    ]
    if "train" not in empty and wanted["train"]:
        untaught = [name for name, n in dataset.counts("train").items() if n == 0]
        if untaught:
            classes = count(len(untaught), "class", "classes")
            empty.append(f"train of {classes}: {listed(untaught)}")
    return empty


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


def _check_usable(dataset: Dataset, context: Context) -> None:
    if fault := _usability_fault(dataset):
        for note in cleaning_notes(dataset):
            context.progress.info(note)
        raise fault


def _usability_fault(dataset: Dataset) -> DataError | None:
    if not dataset.keep.any():
        none = f"none of the {len(dataset):,} files here is a usable image"
        message = none if len(dataset) > 1 else "the only file here is not a usable image"
        reasons = "; ".join(drop_reasons(dataset, 3))
        outside = any(OUTSIDE in (row or [""])[0] for row in dataset.table["reasons"].to_pylist())
        hint = "If you trust this data, set data.allow_outside to true." if outside else None
        return DataError(f"{message}: {reasons}.", where=dataset.shown_root, hint=hint)
    own_rows = dataset.rows()
    kept = np.bincount(
        dataset.labels[own_rows][dataset.labels[own_rows] >= 0], minlength=len(dataset.classes)
    )
    empty = [name for name, n in zip(dataset.classes, kept, strict=True) if n == 0]
    if empty:
        message = "; ".join(_without_images(name, dataset) for name in empty[:3])
        return DataError(
            f"no usable image is left of {count(len(empty), 'class', 'classes')}: {message}.",
            where=dataset.shown_root,
            hint="Repair the images, or leave the class out with "
            "--set data.leave_out_classes=[...].",
        )
    return None


def _without_images(name: str, dataset: Dataset) -> str:
    """A class, with the reason why its first dropped image cannot be used."""
    dropped = np.flatnonzero((dataset.labels == dataset.classes.index(name)) & ~dataset.keep)
    if not len(dropped):  # all its images belong to other domains
        return repr(name)
    return f"{name!r} ({with_reason(int(dropped[0]), dataset)})"
