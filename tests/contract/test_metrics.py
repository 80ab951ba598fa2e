"""One suite over every metric."""

import numpy as np
import pytest

from acclimate.evaluation.metrics import METRICS, Outcomes, bootstrap_interval


def outcomes(seed=0, images=200, classes=5, skill=0.6):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    said = np.where(rng.random(images) < skill, labels, rng.integers(0, classes, images))
    return Outcomes(labels, said, rng.uniform(0.2, 1, images).astype(np.float32), classes)


def chosen(found, rows):
    return Outcomes(
        found.labels[rows], found.predictions[rows], found.confidences[rows], found.num_classes
    )


def figure(metric, found):
    count_metric = METRICS[metric](found)
    return float(count_metric.figure(count_metric.counts[None])[0])


def test_every_metric_is_tried():
    assert list(METRICS) == ["accuracy", "macro_f1", "calibration_error"]


@pytest.mark.parametrize("metric", METRICS)
def test_the_counts_are_of_all_images(metric):
    counts = METRICS[metric](outcomes()).counts
    assert counts.sum() == 200
    assert (counts >= 0).all()


@pytest.mark.parametrize("metric", METRICS)
def test_the_figure_is_a_part_of_one(metric):
    for seed in range(20):
        assert 0 <= figure(metric, outcomes(seed, images=1 + seed, skill=seed / 20)) <= 1


@pytest.mark.parametrize("metric", METRICS)
def test_the_order_of_the_images_does_not_matter(metric):
    found = outcomes()
    shuffled = chosen(found, np.random.default_rng(1).permutation(200))
    assert figure(metric, shuffled) == pytest.approx(figure(metric, found), abs=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_every_image_twice_gives_the_same_figure_and_a_narrower_interval(metric):
    found = outcomes()
    twice = chosen(found, np.tile(np.arange(200), 4))
    assert figure(metric, twice) == pytest.approx(figure(metric, found), abs=1e-6)
    wide, narrow = (
        bootstrap_interval(
            METRICS[metric](o), np.random.default_rng(0), resamples=1000, confidence=0.95
        )
        for o in (found, twice)
    )
    assert narrow.high - narrow.low < 0.75 * (wide.high - wide.low)


@pytest.mark.parametrize("metric", METRICS)
def test_many_resamples_at_once_are_each_counted_for_themselves(metric):
    count_metric = METRICS[metric](outcomes())
    drawn = np.random.default_rng(0).multinomial(200, count_metric.counts / 200, size=50)
    one_by_one = [float(count_metric.figure(row[None])[0]) for row in drawn]
    assert np.allclose(count_metric.figure(drawn), one_by_one)
    assert np.ptp(one_by_one) > 0


@pytest.mark.parametrize("metric", METRICS)
def test_the_counts_of_the_images_themselves_are_among_what_the_interval_spans(metric):
    found = bootstrap_interval(
        METRICS[metric](outcomes(images=1000)),
        np.random.default_rng(0),
        resamples=1000,
        confidence=0.999,
    )
    assert found.low < found.value < found.high


@pytest.mark.parametrize("metric", METRICS)
def test_one_seed_gives_one_interval(metric):
    count_metric = METRICS[metric](outcomes())
    first, second, other = (
        bootstrap_interval(count_metric, np.random.default_rng(seed), resamples=200, confidence=0.9)
        for seed in (3, 3, 4)
    )
    assert first == second != other
