"""Figures against scikit-learn and direct formulas, intervals against resampled images."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from acclimate.evaluation.metrics import (
    METRICS,
    CountMetric,
    Outcomes,
    accuracy,
    bootstrap_interval,
    calibration_error,
    confusion,
    macro_f1,
    per_class,
)

CLASSES = 4


def outcomes(seed, images, skill=0.6, classes=CLASSES):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    said = np.where(rng.random(images) < skill, labels, rng.integers(0, classes, images))
    return Outcomes(labels, said, rng.uniform(0.25, 1, images).astype(np.float32), classes)


def figure(count_metric):
    return float(count_metric.figure(count_metric.counts[None])[0])


def bounds(count_metric, seed=0, resamples=2000, confidence=0.95):
    return bootstrap_interval(
        count_metric, np.random.default_rng(seed), resamples=resamples, confidence=confidence
    )


def direct_calibration_error(found):
    """By the definition: bins of equal width, weighted by how many images fall into each."""
    total = 0.0
    for index in range(15):
        inside = np.minimum((found.confidences * 15).astype(int), 14) == index
        if inside.any():
            right = (found.labels == found.predictions)[inside].mean()
            total += inside.mean() * abs(found.confidences[inside].mean() - right)
    return total


def direct(metric, found, present):
    if metric == "accuracy":
        return float((found.labels == found.predictions).mean())
    if metric == "calibration_error":
        return direct_calibration_error(found)
    return sklearn_metrics.f1_score(
        found.labels, found.predictions, labels=present, average="macro", zero_division=0
    )


few = st.integers(1, 120)
seeds = st.integers(0, 10_000)
parts = st.floats(0, 1)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, images=few, skill=parts)
def test_accuracy_and_macro_f1_are_those_of_scikit_learn(seed, images, skill):
    found = outcomes(seed, images, skill)
    assert figure(accuracy(found)) == pytest.approx(
        sklearn_metrics.accuracy_score(found.labels, found.predictions)
    )
    # scikit-learn also counts classes that were said and never there; they are left out here.
    assert figure(macro_f1(found)) == pytest.approx(
        direct("macro_f1", found, np.unique(found.labels))
    )


def test_macro_f1_counts_every_class_alike():
    labels = np.asarray([0] * 98 + [1, 1])
    lazy = Outcomes(labels, np.zeros(100, np.int64), np.ones(100, np.float32), 2)
    assert figure(accuracy(lazy)) == 0.98
    assert figure(macro_f1(lazy)) == pytest.approx((2 * 98 / 198) / 2)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, images=few, skill=parts)
def test_the_calibration_error_is_that_of_its_definition(seed, images, skill):
    found = outcomes(seed, images, skill)
    assert figure(calibration_error(found)) == pytest.approx(
        direct_calibration_error(found), abs=1e-6
    )


def test_full_confidence_is_calibrated_only_where_all_are_right():
    labels = np.asarray([0, 1, 0, 1])
    sure = np.ones(4, np.float32)
    assert figure(calibration_error(Outcomes(labels, labels, sure, 2))) == 0
    assert figure(calibration_error(Outcomes(labels, 1 - labels, sure, 2))) == 1
    half = Outcomes(labels, np.zeros(4, np.int64), np.full(4, 0.5, np.float32), 2)
    assert figure(calibration_error(half)) == pytest.approx(0)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, images=few)
def test_the_confusion_matrix_is_that_of_scikit_learn(seed, images):
    found = outcomes(seed, images)
    expected = sklearn_metrics.confusion_matrix(
        found.labels, found.predictions, labels=range(CLASSES)
    )
    assert (confusion(found) == expected).all()


@settings(max_examples=20, deadline=None)
@given(seed=seeds, images=few)
def test_figures_of_each_class_are_those_of_scikit_learn(seed, images):
    found = outcomes(seed, images)
    expected = sklearn_metrics.precision_recall_fscore_support(
        found.labels, found.predictions, labels=range(CLASSES), zero_division=np.nan
    )
    names = [f"class {i}" for i in range(CLASSES)]
    table = per_class(found, names)
    assert list(table) == names
    ours = [(f.precision, f.recall, f.f1, f.images) for f in table.values()]
    theirs = np.asarray(expected, float).T
    theirs[:, 2] = np.nan_to_num(theirs[:, 2])
    assert np.allclose(np.asarray(ours, float), theirs, equal_nan=True)


def test_a_class_that_is_absent_and_never_said_has_no_recall_and_no_precision():
    figures = per_class(
        Outcomes(np.asarray([0]), np.asarray([0]), np.ones(1, np.float32), 2), ("here", "not")
    )["not"]
    assert (figures.images, figures.f1) == (0, 0.0)
    assert math.isnan(figures.recall)
    assert math.isnan(figures.precision)


# Intervals


def resampled(metric, found, seed, resamples=1200, confidence=0.95):
    """The percentile bootstrap as the books have it: images drawn again and counted again."""
    rng, size = np.random.default_rng(seed), len(found.labels)
    present, values = np.unique(found.labels), []
    for _ in range(resamples):
        rows = rng.integers(0, size, size)
        again = Outcomes(
            found.labels[rows], found.predictions[rows], found.confidences[rows], CLASSES
        )
        values.append(direct(metric, again, present))
    tail = (1 - confidence) / 2
    return np.quantile(values, [tail, 1 - tail])


@pytest.mark.parametrize("metric", ["accuracy", "calibration_error"])
@settings(max_examples=5, deadline=None)
@given(seed=seeds, skill=st.floats(0.2, 0.95))
def test_intervals_are_those_of_images_drawn_again(metric, seed, skill):
    found = outcomes(seed, 150, skill)
    ours = bounds(METRICS[metric](found))
    assert (ours.low, ours.high) == pytest.approx(resampled(metric, found, seed + 1), abs=0.025)


def test_the_interval_of_macro_f1_is_that_of_images_drawn_again():
    found = outcomes(3, 150, 0.7)
    ours = bounds(macro_f1(found))
    expected = resampled("macro_f1", found, 4, resamples=500)
    assert (ours.low, ours.high) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("truth", [0.6, 0.9])
def test_intervals_hold_the_truth_about_as_often_as_they_say(truth):
    rng, held = np.random.default_rng(0), 0
    for seed in range(300):
        right = rng.random(150) < truth
        labels = np.zeros(150, np.int64)
        found = Outcomes(labels, np.where(right, 0, 1), np.ones(150, np.float32), 2)
        ours = bounds(accuracy(found), seed, resamples=400)
        held += ours.low <= truth <= ours.high
    assert 0.925 <= held / 300 <= 0.985


@settings(max_examples=20, deadline=None)
@given(seed=seeds, images=st.integers(5, 120), skill=parts)
def test_more_confidence_is_a_wider_interval(seed, images, skill):
    count_metric = accuracy(outcomes(seed, images, skill))
    wide, narrow = (bounds(count_metric, resamples=300, confidence=c) for c in (0.99, 0.8))
    assert wide.low <= narrow.low <= narrow.high <= wide.high
    assert wide.value == narrow.value == figure(count_metric)


def test_where_all_are_right_the_interval_is_a_point():
    labels = np.arange(20) % CLASSES
    found = bounds(accuracy(Outcomes(labels, labels, np.ones(20, np.float32), CLASSES)))
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_a_resample_counts_as_many_images_as_there_are():
    totals = []

    def figure_of(counts):
        totals.extend(counts.sum(1).tolist())
        return counts[:, 0] / counts.sum(1)

    bounds(CountMetric(np.asarray([3, 4]), figure_of), resamples=250)
    assert totals == [7] * 251


def test_counts_of_a_thousand_classes_are_drawn_piece_by_piece():
    pieces = []

    def figure_of(counts):
        pieces.append(len(counts))
        return counts[:, 0] / counts.sum(1)

    bounds(CountMetric(np.ones(1_000_000, np.int64), figure_of), resamples=7)
    assert sum(pieces) == 1 + 7
    assert max(pieces) * 1_000_000 * 8 <= 32e6, "bytes at once"
