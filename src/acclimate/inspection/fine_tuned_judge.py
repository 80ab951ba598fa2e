"""What networks say that were fine-tuned on the other parts.

Features of a frozen network know the data only as well as its pretraining did; a network that was
fine-tuned knows it better, and errs on other images.
"""

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from acclimate.augmentation.auto_policy import safe_policy
from acclimate.augmentation.policy import Policy
from acclimate.context import Context
from acclimate.data.dataset import Dataset, Rows
from acclimate.features.probe import probe
from acclimate.files import digest_json, write_atomic
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.inspection.feature_view import View
from acclimate.inspection.folds import Folds, Logits
from acclimate.models.runtime import predict_logits
from acclimate.progress import OnlyBars

_VERSION = 1
"""Raised when what was said by another version must not be gone on with."""


def by_fine_tuning(view: View, folds: Folds) -> Logits:
    """A training for each part, on all the others.

    There is no val, so nothing chooses: the weights are those in which the schedule ends. What a
    part's network said is kept in the workspace, so that a run that was killed goes on after it.

    Args:
        view: The network, and the images.
        folds: Who is judged, by networks that were trained without them.

    Returns:
        float32, (n, C), in the order of `folds.judged`.
    """
    said = np.zeros((len(folds.judged), len(view.dataset.classes)), np.float32)
    everything = _with_train(view.dataset, folds.taught)
    own = _quietly(view.context)
    # Asked once, and not at all where every answer is there from a run before.
    policy = cache(lambda: safe_policy(view.classifier, everything, context=own))
    for part in range(folds.number):
        places = folds.asked_of(part)
        if not len(places):
            continue
        learnt = _with_train(view.dataset, _learnt_from(view.dataset, folds, part))
        rows, name = folds.judged[places], f"part {part + 1} of {folds.number}"
        said[places] += folds.share(places) * _answers(view, learnt, rows, policy, name)
    return said


def _learnt_from(dataset: Dataset, folds: Folds, part: int) -> Rows:
    """What the judge of a part learns from: never nothing of a class.

    Near-duplicates stay together, so a part may hold all of a class: it learns from them then.
    """
    learning, classes = folds.learnt_from(part), dataset.labels[folds.taught]
    missing = np.isin(classes, np.setdiff1d(classes, dataset.labels[learning]))
    return np.union1d(learning, folds.taught[missing])


def _with_train(dataset: Dataset, rows: Rows) -> Dataset:
    """The data set with these rows as its train split, and no other."""
    split: list[str | None] = [None] * len(dataset)
    for row in rows.tolist():
        split[row] = "train"
    return dataset.with_columns({"split": split})


def _quietly(context: Context) -> Context:
    return replace(context, progress=OnlyBars(context.progress))


def _answers(
    view: View, learnt: Dataset, rows: Rows, policy: Callable[[], Policy], part: str
) -> Logits:
    """Logits of some rows, by a network that learns from `learnt`; kept in the workspace."""
    name, info = view.classifier.name, view.context.progress.info
    kept = _kept_at(view, learnt, rows)
    if kept is not None and kept.exists():
        info(f"inspect: what {name} said of {part} is there from before")
        found: Logits = np.load(kept, allow_pickle=False)
        return found
    info(f"inspect: {name} learns all but {part}")
    training = None if kept is None else kept.with_suffix(".work")
    own = replace(_quietly(view.context), workspace=training)
    answers = _trained(view, learnt, rows, policy(), own)
    if kept is not None and training is not None:
        buffer = io.BytesIO()
        np.save(buffer, answers, allow_pickle=False)
        write_atomic(kept, buffer.getvalue())
        shutil.rmtree(training, ignore_errors=True)  # a checkpoint each takes much room
    return answers


def _kept_at(view: View, learnt: Dataset, rows: Rows) -> Path | None:
    """Where answers are kept; None without a workspace."""
    workspace, seed = view.context.workspace, view.context.seed
    if workspace is None:
        return None
    key = [_VERSION, view.classifier.digest, learnt.digest, view.settings.epochs, seed]
    return workspace / f"said-{digest_json([*key, rows.tolist()])[:16]}.npy"


def _trained(view: View, learnt: Dataset, rows: Rows, policy: Policy, context: Context) -> Logits:
    # A head of its own, also where the given network knows the classes: that one saw these labels.
    start = probe(view.classifier, learnt, context=context)
    settings = FineTune(epochs=view.settings.epochs, class_statistics=False)
    tuned = fine_tune(start, learnt, policy, settings, context=context)
    return predict_logits(tuned, learnt, rows, context, task="label errors")
