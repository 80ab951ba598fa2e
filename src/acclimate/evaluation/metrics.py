"""Metrics with bootstrap intervals, computed from counts.

Resampling the counts from a multinomial distribution is equivalent to resampling the images, and
its cost does not grow with their number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from acclimate.context import Context
from acclimate.evaluation.settings import Evaluate

BINS = 15
"""Bins of the expected calibration error (Guo et al. 2017, arXiv 1706.04599)."""

_MAX_CELLS = 4_000_000
"""Counts to resample at once: 32 MB."""


@dataclass(frozen=True)
class Interval:
    """A figure with its confidence interval.

    Attributes:
        value: As measured.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def __float__(self) -> float:
        """The figure without its interval."""
        return self.value

    def __str__(self) -> str:
        """The figure and its interval."""
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Outcomes:
    """Labels and predictions for some images.

    Attributes:
        labels: int64, (N,): true class ids.
        predictions: int64, (N,): predicted class ids.
        confidences: float32, (N,): probability of the predicted class.
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
        counts: int64, (K,): number of images in each cell.
        figure: A function from (R, K) counts to (R,) figures.
    """

    counts: NDArray[np.int64]
    figure: Callable[[NDArray[np.int64]], NDArray[np.float64]]


def confusion(outcomes: Outcomes) -> NDArray[np.int64]:
    """The confusion matrix: int64, (C, C), with the true class in rows."""
    size = outcomes.num_classes
    flat = np.bincount(outcomes.labels * size + outcomes.predictions, minlength=size * size)
    return flat.reshape(size, size)


@dataclass(frozen=True)
class ClassFigures:
    """The figures of one class.

    Attributes:
        images: Number of images of this class.
        recall: Fraction of them that is predicted correctly; NaN if there are none.
        precision: Fraction of the predictions of this class that is correct; NaN if there are none.
        f1: Harmonic mean of recall and precision; 0 if there are neither images nor predictions.
    """

    images: int
    recall: float
    precision: float
    f1: float


def per_class(outcomes: Outcomes, classes: Sequence[str]) -> dict[str, ClassFigures]:
    """Recall, precision and F1 of each class.

    Args:
        outcomes: Labels and predictions.
        classes: Class names, in the order of ids.

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
    """The fraction of images that is predicted correctly."""
    correct = int((outcomes.labels == outcomes.predictions).sum())
    counts = np.asarray([correct, len(outcomes.labels) - correct], np.int64)
    return CountMetric(counts, lambda c: c[:, 0] / c.sum(1))


def macro_f1(outcomes: Outcomes) -> CountMetric:
    """The mean of F1 over the classes that occur in the labels.

    Only cells of the confusion matrix that are not empty are resampled.
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
    """The expected calibration error: the mean distance of confidence and accuracy over bins.

    Resampling does not change the mean confidence of correct and of wrong predictions in a bin.
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
        count_metric: The metric and its counts.
        rng: Random generator.
        resamples: R, the number of resamples.
        confidence: Confidence level, in (0.5, 1).

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


def metric_interval(
    metric: str, outcomes: Outcomes, domain: str, settings: Evaluate, context: Context
) -> Interval:
    """One metric of one domain with its interval, alike wherever it is computed.

    Args:
        metric: A name in `METRICS`.
        outcomes: Labels and predictions.
        domain: Names the random numbers, with the metric.
        settings: Number of resamples and confidence level.
        context: Holds the seed.

    Returns:
        The figure and its interval.
    """
    return bootstrap_interval(
        METRICS[metric](outcomes),
        np.random.default_rng(context.seed_for("bootstrap", domain, metric)),
        resamples=settings.bootstrap,
        confidence=settings.confidence,
    )


METRICS: dict[str, Callable[[Outcomes], CountMetric]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "calibration_error": calibration_error,
}
"""Name to a function from outcomes to a metric of counts."""
