"""Labels that the image speaks against, by confident learning.

Source: Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset
Labels", JAIR 70, arXiv 1911.00068, through cleanlab (Apache-2.0 since 2.9). It reports nothing to
anybody and is imported here only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from cleanlab.count import compute_confident_joint, get_confident_thresholds
from numpy.typing import NDArray

from acclimate.cleaning.flags import flagged
from acclimate.data.dataset import Dataset, Rows, balanced
from acclimate.data.sources.fix_list import is_kept
from acclimate.errors import count
from acclimate.evaluation.tta import softmax
from acclimate.features.fit_head import calibrated
from acclimate.inspection.feature_view import View
from acclimate.inspection.fine_tuned_judge import by_fine_tuning
from acclimate.inspection.folds import Folds, Judge, dealt
from acclimate.inspection.kernel_judge import by_nearness
from acclimate.registry.resolve import resized_classifier

Probabilities = NDArray[np.float32]
"""(N, C), each row sums to 1."""

FLAG = "label_error"
_NOTE = "classes overlap: "
_LEAST = 5
"""Images of a class below which its labels are not judged: four others teach too little."""
_CONFIDENT = 0.5
"""Part of its usual that another class's probability must reach; see `judge`."""
_SURE = 5_000
"""Images by which it is measured how sure a judge may be."""
_MOST_PAIRS = 5
"""Overlapping pairs that are named."""
_FEW, _SLIGHT = 3, 0.05
"""Images, and part of both classes, below which a pair does not overlap but errs now and then."""


def label_errors(dataset: Dataset, view: View) -> Dataset:
    """Scores every label, and flags those that are probably wrong.

    Each image is judged by what learnt without it and without its near-duplicates. Test images
    teach nobody: they are judged by the judges of all folds, for their owner to see.

    Args:
        dataset: Cleaned and split.
        view: The features; who judges, how many folds, from which score on.

    Returns:
        The data set with `label_error` (in [0, 1], high is suspicious), `suggested_label` (null
        where nothing is suggested) and `flags` filled, and a note for each pair of classes that
        overlap.
    """
    rows = _judged(dataset, view)
    notes = tuple(note for note in dataset.notes if not note.startswith(_NOTE))
    score = np.full(len(dataset), np.nan)
    suggested: list[str | None] = [None] * len(dataset)
    told = dataset.table["flags"].to_pylist()
    learning = rows[np.isin(rows, view.learning)]
    if len(np.unique(dataset.labels[learning])) >= 2:
        guesses = out_of_fold(view, rows)
        known = np.isin(rows, learning)
        verdict = judge(dataset.labels[rows], guesses, known, view.settings.label_error)
        score[rows] = verdict.score
        for place in np.flatnonzero(verdict.wrong):
            row = int(rows[place])
            if is_kept(told[row]):
                continue
            suggested[row] = dataset.classes[int(verdict.better[place])]
        overlaps = _overlaps(dataset.classes, dataset.labels[rows[known]], guesses[known])
        for line in [f"{count(_number(suggested), 'label')} may be wrong", *overlaps]:
            view.context.progress.info(f"inspect: {line}")
        notes += tuple(overlaps)
    found = dataset.with_columns(
        {
            "label_error": [None if np.isnan(s) else s for s in score],
            "suggested_label": suggested,
            "flags": flagged(dataset, FLAG, [name is not None for name in suggested]),
        }
    )
    return replace(found, notes=notes)


def _number(suggested: Sequence[str | None]) -> int:
    return sum(name is not None for name in suggested)


def _judged(dataset: Dataset, view: View) -> Rows:
    """The labelled rows of classes that have enough images to say anything."""
    rows = view.rows[dataset.labels[view.rows] >= 0]
    learning = dataset.labels[view.learning]
    sizes = np.bincount(learning[learning >= 0], minlength=len(dataset.classes))
    return rows[sizes[dataset.labels[rows]] >= _LEAST]


@dataclass(frozen=True)
class Verdict:
    """What the predictions say about labels.

    Attributes:
        score: float64, (N,), in [0, 1]: how much the image speaks against its label.
        wrong: bool, (N,): probably wrong.
        better: int64, (N,): the class that the image looks most like, its own left aside.
    """

    score: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    better: NDArray[np.int64]


def judge(
    labels: NDArray[np.int64], guesses: Probabilities, known: NDArray[np.bool_], least: float
) -> Verdict:
    """Confident learning's answer for each label.

    All is measured by how sure judges usually are of a class: the mean probability of its own
    images, the paper's threshold. The score is the mean of two shares: that of the best other class
    beside the given one, which ranks swaps to like classes better, and what the given class lacks
    to its usual, which ranks swaps to any class better. A label is probably wrong where the score
    reaches the least and judges are confident of the other class. The paper asks for the whole
    threshold; half of it finds a tenth more of planted errors at the same precision.

    Args:
        labels: int64, (N,).
        guesses: float32, (N, C), out of fold.
        known: bool, (N,): the images whose labels may set thresholds; test images may not.
        least: Score from which on a label counts as wrong, in [0, 1].

    Returns:
        One answer a label.
    """
    usual = np.full(guesses.shape[1], np.inf)
    there = np.unique(labels[known])
    compact = np.searchsorted(there, labels[known])
    usual[there] = get_confident_thresholds(compact, guesses[known][:, there])
    place = np.arange(len(labels))
    own = guesses[place, labels].astype(np.float64)
    others = guesses.copy()
    others[place, labels] = -1
    better = others.argmax(1)
    rival = guesses[place, better] / usual[better]  # 0 of a class that nobody is known of
    own /= np.where(np.isfinite(usual), usual, 1.0)[labels]
    score = (rival / np.maximum(rival + own, 1e-12) + np.maximum(0, 1 - own)) / 2
    wrong = (rival >= _CONFIDENT) & (score >= least)
    return Verdict(score, wrong, better)


def out_of_fold(view: View, rows: Rows) -> Probabilities:
    """What judges that never saw an image say about it: their mean, since they err on others.

    Args:
        view: The images, the network that looks at them first, who judges.
        rows: Which images to judge.

    Returns:
        float32, (n, C), in the order of the rows.
    """
    dataset, settings = view.dataset, view.settings
    rng = np.random.default_rng(view.context.seed_for("label_errors"))
    taught = view.reference[dataset.labels[view.reference] >= 0]
    folds = Folds(rows, taught, dealt(dataset, view.learning, settings.folds, rng), settings.folds)
    sure = np.flatnonzero(np.isin(rows, balanced(dataset, taught, _SURE, rng)))
    size = view.classifier.contract.image_size
    views = [view]
    for name in settings.also:
        views.append(
            replace(
                view,
                classifier=resized_classifier(name, None, size, registry=view.context.registry),
            )
        )
    total = np.zeros((len(rows), len(dataset.classes)), np.float32)
    for one in views:
        for judge_name in settings.judges:
            said = JUDGES[judge_name](one, folds)
            scale, _ = calibrated(said[sure].astype(np.float64), dataset.labels[rows[sure]])
            total += softmax(scale * said) / (len(views) * len(settings.judges))
    return total


def _overlaps(
    classes: tuple[str, ...], labels: NDArray[np.int64], guesses: Probabilities
) -> list[str]:
    """The pairs of classes that are most often confidently taken for each other."""
    there = np.unique(labels)
    joint = compute_confident_joint(
        np.searchsorted(there, labels), guesses[:, there], calibrate=False
    )
    both = np.triu(joint + joint.T, 1)
    sizes = np.bincount(labels, minlength=len(classes))[there]
    parts = both / np.maximum(1, sizes[:, None] + sizes[None])
    lines = []
    for pair in np.argsort(-parts, axis=None, kind="stable")[:_MOST_PAIRS]:
        one, other = np.unravel_index(pair, parts.shape)
        if both[one, other] < _FEW or parts[one, other] < _SLIGHT:
            break
        names = f"{classes[there[one]]!r} and {classes[there[other]]!r}"
        lines.append(
            f"{_NOTE}{names}: {int(both[one, other]):,} of their "
            f"{int(sizes[one] + sizes[other]):,} images look like the other"
        )
    return lines


JUDGES: dict[str, Judge] = {"nearness": by_nearness, "fine_tuning": by_fine_tuning}
"""(view, folds) to what networks that never saw an image say of it."""
