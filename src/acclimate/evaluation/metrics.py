"""Figures with intervals, all read off counts.

Resampling images and counting again is the same as drawing the counts themselves from a
multinomial: exact, and its cost does not grow with the number of images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

BINS = 15
"""Of the calibration error (Guo et al. 2017, arXiv 1706.04599)."""

_MAX_CELLS = 4_000_000
"""Counts drawn at once: 32 MB."""


@dataclass(frozen=True)
class Interval:
    """A figure and where it may lie.

    Attributes:
        value: As measured.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Outcomes:
    """What a classifier said of some images.

    Attributes:
        labels: int64, (N,): true class ids.
        predictions: int64, (N,).
        confidences: float32, (N,): probability of the prediction.
        num_classes: C.
    """

    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]
    confidences: NDArray[np.float32]
    num_classes: int


@dataclass(frozen=True)
class CountMetric:
    """A metric as a function of counts.

    Attributes:
        counts: int64, (K,): how many images fall into each cell.
        figure: (R, K) counts to (R,) figures.
    """

    counts: NDArray[np.int64]
    figure: Callable[[NDArray[np.int64]], NDArray[np.float64]]


def confusion(outcomes: Outcomes) -> NDArray[np.int64]:
    """How often each class was taken for each: int64, (C, C), rows are the true class."""
    size = outcomes.num_classes
    flat = np.bincount(outcomes.labels * size + outcomes.predictions, minlength=size * size)
    return flat.reshape(size, size)


@dataclass(frozen=True)
class ClassFigures:
    """How one class fares.

    Attributes:
        images: Of this class.
        recall: Part of them that was found; NaN where there are none.
        precision: Part of what was taken for it that is it; NaN where nothing was.
        f1: Their harmonic mean; 0 where neither is known.
    """

    images: int
    recall: float
    precision: float
    f1: float


def per_class(outcomes: Outcomes, classes: Sequence[str]) -> dict[str, ClassFigures]:
    """Recall, precision and F1 of each class.

    Args:
        outcomes: Of some images.
        classes: Names, in the order of ids.

    Returns:
        Name to figures.
    """
    table = confusion(outcomes)
    correct, truth, predicted = np.diag(table), table.sum(1), table.sum(0)
    return {
        name: ClassFigures(
            images=int(truth[i]),
            recall=float(correct[i] / truth[i]) if truth[i] else float("nan"),
            precision=float(correct[i] / predicted[i]) if predicted[i] else float("nan"),
            f1=float(2 * correct[i] / (truth[i] + predicted[i]))
            if truth[i] + predicted[i]
            else 0.0,
        )
        for i, name in enumerate(classes)
    }


def accuracy(outcomes: Outcomes) -> CountMetric:
    """The part of the images that was named right."""
    correct = int((outcomes.labels == outcomes.predictions).sum())
    counts = np.asarray([correct, len(outcomes.labels) - correct], np.int64)
    return CountMetric(counts, lambda c: c[:, 0] / c.sum(1))


def macro_f1(outcomes: Outcomes) -> CountMetric:
    """The mean over classes of F1; a class that is absent from the images is left out.

    Only diagonal, row and column sums are needed, so cells that are empty are not drawn.
    """
    table = confusion(outcomes)
    cells = np.flatnonzero(table)
    truth, predicted = np.divmod(cells, outcomes.num_classes)
    size, present = outcomes.num_classes, table.sum(1) > 0
    rows = csr_array((np.ones(len(cells)), (truth, np.arange(len(cells)))), (size, len(cells)))
    columns = csr_array(
        (np.ones(len(cells)), (predicted, np.arange(len(cells)))), (size, len(cells))
    )
    diagonal = rows.multiply(truth == predicted).tocsr()  # (C, K)

    def figure(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        correct, total = (diagonal @ counts.T).T, ((rows + columns) @ counts.T).T  # (R, C)
        f1 = np.divide(2 * correct, total, out=np.zeros_like(total), where=total > 0)
        return np.asarray(f1[:, present].mean(1))

    return CountMetric(table.reshape(-1)[cells], figure)


def calibration_error(outcomes: Outcomes) -> CountMetric:
    """Expected calibration error: how far confidence is from accuracy, weighted over bins.

    Within a bin, the mean confidence of right and of wrong predictions is held fixed when
    resampling.
    """
    correct = (outcomes.labels == outcomes.predictions).astype(np.int64)
    bins = np.minimum((outcomes.confidences * BINS).astype(np.int64), BINS - 1)
    cell = bins * 2 + correct
    counts = np.bincount(cell, minlength=2 * BINS)
    sums = np.bincount(cell, weights=outcomes.confidences, minlength=2 * BINS)
    mean = np.divide(sums, counts, out=np.zeros(2 * BINS), where=counts > 0)

    def figure(sampled: NDArray[np.int64]) -> NDArray[np.float64]:
        confident = (sampled * mean).reshape(-1, BINS, 2).sum(2)  # (R, BINS)
        correct = sampled.reshape(-1, BINS, 2)[:, :, 1]
        return np.asarray(np.abs(confident - correct).sum(1) / sampled.sum(1))

    return CountMetric(counts, figure)


def bootstrap_interval(
    count_metric: CountMetric, rng: np.random.Generator, *, resamples: int, confidence: float
) -> Interval:
    """A metric with its percentile bootstrap interval (Efron 1979).

    Args:
        count_metric: The metric's counts.
        rng: Draws the resamples.
        resamples: R.
        confidence: In (0.5, 1).

    Returns:
        The figure and its interval.
    """
    total = int(count_metric.counts.sum())
    value = float(count_metric.figure(count_metric.counts[None])[0])
    step = max(1, _MAX_CELLS // len(count_metric.counts))
    sampled = [
        count_metric.figure(
            rng.multinomial(total, count_metric.counts / total, size=min(step, resamples - done))
        )
        for done in range(0, resamples, step)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(sampled), [tail, 1 - tail])
    return Interval(value, float(low), float(high))


METRICS: dict[str, Callable[[Outcomes], CountMetric]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "calibration_error": calibration_error,
}
"""Outcomes to counts and the figure they give."""
