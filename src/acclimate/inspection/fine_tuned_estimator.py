"""Out-of-fold predictions by networks that are fine-tuned on the other folds.

The features of a frozen network fit the data only as well as its pretraining did. A fine-tuned
network fits it better, and makes other mistakes.
"""

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from acclimate.augmentation.auto_policy import auto_policy
from acclimate.augmentation.policy import Policy
from acclimate.context import Context
from acclimate.data.dataset import Dataset, Rows
from acclimate.features.probe import probe
from acclimate.files import digest_json, write_atomic
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.inspection.feature_view import FeatureView
from acclimate.inspection.folds import Folds, Logits
from acclimate.models.runtime import predict_logits
from acclimate.progress import OnlyBars

_VERSION = 1
"""Raised when logits of an earlier version must not be reused."""


def fine_tuned_logits(view: FeatureView, folds: Folds) -> Logits:
    """One training per fold, on all other folds.

    There is no val split, so there is no early stopping: the weights at the end of the schedule
    count. The logits of each fold are kept in the workspace, so a run that was killed continues
    with the next fold.

    Args:
        view: The network and the images.
        folds: The rows to predict, each by a network that was trained without them.

    Returns:
        float32, (n, C), in the order of `folds.rows`.
    """
    logits = np.zeros((len(folds.rows), len(view.dataset.classes)), np.float32)
    everything = _with_train(view.dataset, folds.known)
    quiet = _only_bars(view.context)
    # Chosen once, and only if the logits of some fold are missing.
    policy = cache(lambda: auto_policy(view.classifier, everything, context=quiet))
    for fold in range(folds.number):
        places = folds.held_out(fold)
        if not len(places):
            continue
        train = _with_train(view.dataset, _train_rows(view.dataset, folds, fold))
        rows, name = folds.rows[places], f"fold {fold + 1} of {folds.number}"
        logits[places] += folds.weight(places) * _fold_logits(view, train, rows, policy, name)
    return logits


def _train_rows(dataset: Dataset, folds: Folds, fold: int) -> Rows:
    """The rows that a fold's network learns from, with images of every class.

    Near-duplicates share a fold, so a fold may hold all images of a class. The fold's own network
    then learns from them too.
    """
    train, labels = folds.train(fold), dataset.labels[folds.known]
    missing = np.isin(labels, np.setdiff1d(labels, dataset.labels[train]))
    return np.union1d(train, folds.known[missing])


def _with_train(dataset: Dataset, rows: Rows) -> Dataset:
    """The data set with these rows as its train split, and no other split."""
    split: list[str | None] = [None] * len(dataset)
    for row in rows.tolist():
        split[row] = "train"
    return dataset.with_columns({"split": split})


def _only_bars(context: Context) -> Context:
    return replace(context, progress=OnlyBars(context.progress))


def _fold_logits(
    view: FeatureView, train: Dataset, rows: Rows, policy: Callable[[], Policy], fold: str
) -> Logits:
    """Logits of some rows, by a network that learns from `train`; kept in the workspace."""
    name, info = view.classifier.name, view.context.progress.info
    kept = _kept_path(view, train, rows)
    if kept is not None and kept.exists():
        info(f"inspect: {name}: {fold} is kept from an earlier run")
        found: Logits = np.load(kept, allow_pickle=False)
        return found
    info(f"inspect: fine-tuning {name} for {fold}")
    workspace = None if kept is None else kept.with_suffix(".work")
    context = replace(_only_bars(view.context), workspace=workspace)
    logits = _train_and_predict(view, train, rows, policy(), context)
    if kept is not None and workspace is not None:
        buffer = io.BytesIO()
        np.save(buffer, logits, allow_pickle=False)
        write_atomic(kept, buffer.getvalue())
        shutil.rmtree(workspace, ignore_errors=True)  # the checkpoints are large
    return logits


def _kept_path(view: FeatureView, train: Dataset, rows: Rows) -> Path | None:
    """The file for the logits of some rows; None without a workspace."""
    workspace, seed = view.context.workspace, view.context.seed
    if workspace is None:
        return None
    key = [_VERSION, view.classifier.digest, train.digest, view.settings.epochs, seed]
    return workspace / f"said-{digest_json([*key, rows.tolist()])[:16]}.npy"


def _train_and_predict(
    view: FeatureView, train: Dataset, rows: Rows, policy: Policy, context: Context
) -> Logits:
    # A new head even if the given network knows the classes: that head has learnt these labels.
    start = probe(view.classifier, train, context=context)
    settings = FineTune(epochs=view.settings.epochs, class_statistics=False)
    tuned = fine_tune(start, train, policy, settings, context=context)
    return predict_logits(tuned, train, rows, context, task="label errors")
