"""Label errors, by confident learning.

Source: Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset
Labels", JAIR 70, arXiv 1911.00068, through cleanlab (Apache-2.0 since 2.9). cleanlab sends no
telemetry, and only this file imports it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from cleanlab.count import compute_confident_joint, get_confident_thresholds
from numpy.typing import NDArray

from acclimate.cleaning.findings import with_flag
from acclimate.data.dataset import Dataset, Rows, balanced_sample
from acclimate.data.sources.fix_list import is_marked_keep
from acclimate.errors import count
from acclimate.evaluation.tta import softmax
from acclimate.features.fit_head import calibrated
from acclimate.inspection.feature_view import FeatureView
from acclimate.inspection.fine_tuned_estimator import fine_tuned_logits
from acclimate.inspection.folds import Estimator, Folds, stratified_folds
from acclimate.inspection.kernel_estimator import kernel_logits
from acclimate.inspection.label_noise import LabelNoise, estimate_noise
from acclimate.registry.resolve import resized_classifier

Probabilities = NDArray[np.float32]
"""(N, C), each row sums to 1."""

FLAG = "label_error"
_NOTE, _NOISE_NOTE = "classes overlap: ", "labels: "
_NEVER = 2.0
"""A threshold above all scores."""
_MIN_CLASS_SIZE = 5
"""Labels of smaller classes are not checked: fewer than four other images teach too little."""
MIN_MEDIAN = 30
"""Images of a class in the middle, below which labels are flagged only by a threshold that the user
gives: with 24 a class, 12 of 24 flags were wrong on flowers, and all 4 on another 150 of them."""
_CONFIDENT = 0.5
"""Share of a class's threshold that its probability must reach; see `find_label_issues`."""
_CALIBRATION_IMAGES = 5_000
_MAX_PAIRS = 5
"""Overlapping pairs of classes to report."""
_MIN_CONFUSED, _MIN_CONFUSED_SHARE = 3, 0.05
"""Confused images, and their share of both classes, below which a pair is not reported."""


def label_errors(dataset: Dataset, view: FeatureView) -> Dataset:
    """Scores every label, and flags those that are probably wrong.

    Each image is predicted by a model that was fitted without it and without its near-duplicates.
    Nothing learns from test images: they get the mean prediction of all folds' models, and their
    flags are for the user to see.

    Args:
        dataset: Cleaned and split.
        view: The features, the estimators, the number of folds and the threshold.

    Returns:
        The data set with `label_error` (in [0, 1], high is suspicious), `suggested_label` (null
        without a suggestion) and `flags` filled, and a note for each pair of classes that overlap.
    """
    rows = _checked_rows(dataset, view)
    notes = tuple(note for note in dataset.notes if not note.startswith((_NOTE, _NOISE_NOTE)))
    score = np.full(len(dataset), np.nan)
    suggested: list[str | None] = [None] * len(dataset)
    flags = dataset.table["flags"].to_pylist()
    known = np.isin(rows, view.non_test)
    if len(np.unique(dataset.labels[rows[known]])) >= 2:
        probabilities = out_of_fold(view, rows)
        own, guesses = dataset.labels[rows[known]], probabilities[known]
        rng = np.random.default_rng(view.context.seed_for("label_noise"))
        noise = label_noise(own, guesses, rng)
        threshold = view.settings.label_error
        if threshold == "auto":
            threshold = _NEVER if noise is None else noise.threshold
        issues = find_label_issues(dataset.labels[rows], probabilities, known, threshold)
        score[rows] = issues.score
        for place in np.flatnonzero(issues.is_issue):
            row = int(rows[place])
            if is_marked_keep(flags[row]):
                continue
            suggested[row] = dataset.classes[int(issues.suggested[place])]
        found_notes = [
            _noise_note(noise, threshold, own),
            *_overlaps(dataset.classes, own, guesses),
        ]
        for line in [_number_found(suggested), *found_notes]:
            view.context.progress.info(f"inspect: {line}")
        notes += tuple(found_notes)
    found = dataset.with_columns(
        {
            "label_error": [None if np.isnan(s) else s for s in score],
            "suggested_label": suggested,
            "flags": with_flag(dataset, FLAG, [name is not None for name in suggested]),
        }
    )
    return replace(found, notes=notes)


def _number_found(suggested: Sequence[str | None]) -> str:
    number = sum(name is not None for name in suggested)
    return f"{count(number, 'label')} may be wrong" if number else "no label is flagged"


def _noise_note(noise: LabelNoise | None, threshold: float, labels: NDArray[np.int64]) -> str:
    """How many labels are wrong and how many flags are right, or why this is not known."""
    if noise is None:
        sizes = np.bincount(labels)
        middle = int(np.median(sizes[sizes > 0]))
        flagged = "not flagged" if threshold == _NEVER else "flagged by the given threshold alone"
        more = "" if threshold != _NEVER else " Set inspect.label_error to 0.9 to flag them anyway."
        return (
            f"{_NOISE_NOTE}{flagged}: with {middle} images per class outside test, wrong labels "
            f"cannot be told from hard images; {MIN_MEDIAN} are needed.{more}"
        )
    fewest, most = round(noise.fewest), round(noise.most)
    number = f"{fewest:,} to {most:,}" if fewest < most else f"about {most:,}"
    expected = noise.precision(threshold)
    low, high = round(100 * expected.low), round(100 * expected.high)
    share = f"{low} to {high}" if low < high else f"about {high}"
    return (
        f"{_NOISE_NOTE}{number} of {noise.labels:,} are estimated to be wrong; "
        f"of those with a score of {threshold:.2f} or more, {share} %."
    )


def _checked_rows(dataset: Dataset, view: FeatureView) -> Rows:
    """The labelled rows of classes with enough images."""
    rows = view.rows[dataset.labels[view.rows] >= 0]
    labels = dataset.labels[view.non_test]
    sizes = np.bincount(labels[labels >= 0], minlength=len(dataset.classes))
    return rows[sizes[dataset.labels[rows]] >= _MIN_CLASS_SIZE]


@dataclass(frozen=True)
class LabelIssues:
    """What confident learning finds for each label.

    Attributes:
        score: float64, (N,), in [0, 1]: how suspicious the label is.
        is_issue: bool, (N,): whether the label is probably wrong.
        suggested: int64, (N,): the most probable other class.
    """

    score: NDArray[np.float64]
    is_issue: NDArray[np.bool_]
    suggested: NDArray[np.int64]


def find_label_issues(
    labels: NDArray[np.int64],
    probabilities: Probabilities,
    known: NDArray[np.bool_],
    threshold: float,
) -> LabelIssues:
    """Confident learning's result for each label.

    All probabilities are divided by the paper's class threshold: the mean probability of a class
    for its own images. The score is the mean of two terms. One is the best other class's share of
    itself and the given class, which ranks swaps between similar classes better. The other is how
    far the given class stays below its threshold, which ranks swaps to any class better. A label is
    an issue if its score reaches `threshold` and the other class reaches half of its own class
    threshold. The paper requires the whole class threshold; half of it finds a tenth more of the
    planted errors at the same precision.

    Args:
        labels: int64, (N,).
        probabilities: float32, (N, C), out of fold.
        known: bool, (N,): the images that set class thresholds; test images do not.
        threshold: Score from which a label counts as wrong, in [0, 1].

    Returns:
        The result for each label, in the same order.
    """
    usual = _usual(labels[known], probabilities[known])
    return _issues(labels, probabilities, usual, threshold)


def _usual(labels: NDArray[np.int64], probabilities: Probabilities) -> NDArray[np.float64]:
    """float64, (C,): the mean probability of each class for its own images, inf without any."""
    usual = np.full(probabilities.shape[1], np.inf)
    present = np.unique(labels)
    compact = np.searchsorted(present, labels)
    usual[present] = get_confident_thresholds(compact, probabilities[:, present])
    return usual


def _issues(
    labels: NDArray[np.int64],
    probabilities: Probabilities,
    usual: NDArray[np.float64],
    threshold: float,
) -> LabelIssues:
    place = np.arange(len(labels))
    own = probabilities[place, labels].astype(np.float64)
    others = probabilities.copy()
    others[place, labels] = -1
    suggested = others.argmax(1)
    other = probabilities[place, suggested] / usual[suggested]  # 0 for a class without known images
    own /= np.where(np.isfinite(usual), usual, 1.0)[labels]
    score = (other / np.maximum(other + own, 1e-12) + np.maximum(0, 1 - own)) / 2
    return LabelIssues(score, (other >= _CONFIDENT) & (score >= threshold), suggested)


def label_noise(
    labels: NDArray[np.int64], probabilities: Probabilities, rng: np.random.Generator
) -> LabelNoise | None:
    """How many labels are wrong, and the threshold that follows from it.

    Args:
        labels: int64, (N,).
        probabilities: float32, (N, C), out of fold.
        rng: Simulates wrong labels.

    Returns:
        None if the classes are too small to tell.
    """
    present = np.unique(labels)
    labels, probabilities = np.searchsorted(present, labels), probabilities[:, present]
    if np.median(np.bincount(labels)) < MIN_MEDIAN:
        return None
    usual = _usual(labels, probabilities)

    def score(some: NDArray[np.int64], predictions: Probabilities) -> NDArray[np.float64]:
        issues = _issues(some, predictions, usual, 0)
        return np.where(issues.is_issue, issues.score, 0)

    return estimate_noise(labels, probabilities, score, rng)


def out_of_fold(view: FeatureView, rows: Rows) -> Probabilities:
    """The mean out-of-fold probabilities of all estimators and networks.

    Args:
        view: The images, the first network and the settings.
        rows: The rows to predict.

    Returns:
        float32, (n, C), in the order of the rows.
    """
    dataset, settings = view.dataset, view.settings
    rng = np.random.default_rng(view.context.seed_for("label_errors"))
    known = view.reference[dataset.labels[view.reference] >= 0]
    fold = stratified_folds(dataset, view.non_test, settings.folds, rng)
    folds = Folds(rows, known, fold, settings.folds)
    calibration = np.flatnonzero(
        np.isin(rows, balanced_sample(dataset, known, _CALIBRATION_IMAGES, rng))
    )
    size = view.classifier.contract.image_size
    views = [view]
    for name in settings.extra_models:
        model = resized_classifier(name, None, size, registry=view.context.registry)
        views.append(replace(view, classifier=model))
    mean = np.zeros((len(rows), len(dataset.classes)), np.float32)
    for one in views:
        for estimator in settings.estimators:
            logits = ESTIMATORS[estimator](one, folds)
            scale, _ = calibrated(
                logits[calibration].astype(np.float64), dataset.labels[rows[calibration]]
            )
            mean += softmax(scale * logits) / (len(views) * len(settings.estimators))
    return mean


def _overlaps(
    classes: tuple[str, ...], labels: NDArray[np.int64], probabilities: Probabilities
) -> list[str]:
    """The pairs of classes that are most often confidently confused."""
    present = np.unique(labels)
    joint = compute_confident_joint(
        np.searchsorted(present, labels), probabilities[:, present], calibrate=False
    )
    both = np.triu(joint + joint.T, 1)
    sizes = np.bincount(labels, minlength=len(classes))[present]
    shares = both / np.maximum(1, sizes[:, None] + sizes[None])
    lines = []
    for pair in np.argsort(-shares, axis=None, kind="stable")[:_MAX_PAIRS]:
        one, other = np.unravel_index(pair, shares.shape)
        if both[one, other] < _MIN_CONFUSED or shares[one, other] < _MIN_CONFUSED_SHARE:
            break
        names = f"{classes[present[one]]!r} and {classes[present[other]]!r}"
        lines.append(
            f"{_NOTE}{names}: {int(both[one, other]):,} of their "
            f"{int(sizes[one] + sizes[other]):,} images look like the other class"
        )
    return lines


ESTIMATORS: dict[str, Estimator] = {"kernel": kernel_logits, "fine_tuning": fine_tuned_logits}
"""(view, folds) to out-of-fold logits."""
