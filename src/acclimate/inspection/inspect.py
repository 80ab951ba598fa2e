"""The inspect stage: flags label errors and outliers."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.errors import DataError, count
from acclimate.inspection.feature_view import FeatureView
from acclimate.inspection.label_errors import FLAG as LABEL_ERROR
from acclimate.inspection.label_errors import label_errors
from acclimate.inspection.outliers import FLAG as OUTLIER
from acclimate.inspection.outliers import outliers
from acclimate.inspection.settings import Inspect
from acclimate.models.classifier import Classifier

_DEFAULT = Inspect()
_HERE = Context()


def inspect(
    classifier: Classifier,
    dataset: Dataset,
    settings: Inspect = _DEFAULT,
    *,
    context: Context = _HERE,
) -> Dataset:
    """Flags labels that are probably wrong and images that are far from all others.

    The probe uses the same features, so they are computed once. Only findings named in `drop` are
    dropped, and only from train. Images that a fix list keeps are not flagged.

    Args:
        classifier: Pretrained; its head is not used.
        dataset: Cleaned and split.
        settings: Checks to run, and their thresholds.
        context: The run.

    Returns:
        The same rows, with scores and flags.

    Raises:
        DataError: The images were never read, or dropping leaves a class without training images.
    """
    view = FeatureView(classifier, dataset, context, settings)
    for name in settings.checks:
        dataset = INSPECTIONS[name](dataset, view)
    return _dropped(dataset, settings, context) if settings.drop else dataset


def _dropped(dataset: Dataset, settings: Inspect, context: Context) -> Dataset:
    """Drops the findings named in `drop` from train; val and test stay as they were."""
    keep = dataset.keep.copy()
    reasons = dataset.table["reasons"].to_pylist()
    flags = dataset.table["flags"].to_pylist()
    dropped = {_FLAGS[name]: _REASONS[name] for name in settings.drop}
    for row in dataset.rows("train").tolist():
        found = [reason for flag, reason in dropped.items() if flag in (flags[row] or [])]
        keep[row] = not found
        reasons[row] = [*reasons[row], *found]
    rest = dataset.with_columns({"keep": keep, "reasons": reasons})
    before, after = dataset.counts("train"), rest.counts("train")
    empty = [name for name, n in after.items() if n == 0 < before[name]]
    if empty:
        raise DataError(
            f"dropping the flagged images leaves no training image of class {empty[0]!r}.",
            where=dataset.shown_root,
            hint="Set inspect.drop to [] and use a fix list instead.",
        )
    number = int(np.count_nonzero(dataset.keep)) - int(np.count_nonzero(keep))
    context.progress.info(f"inspect: dropped {count(number, 'training image')}")
    return replace(rest, notes=dataset.notes)


_FLAGS = {"label_errors": LABEL_ERROR, "outliers": OUTLIER}
_REASONS = {"label_errors": "label is probably wrong", "outliers": "far from all other images"}

INSPECTIONS: dict[str, Callable[[Dataset, FeatureView], Dataset]] = {
    "label_errors": label_errors,
    "outliers": outliers,
}
"""(dataset, view) to the data set with scores and flags filled."""
