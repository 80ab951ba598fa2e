"""What is usual, and how a test changes it."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from acclimate.augmentation.data_kind import DataKind
from acclimate.augmentation.operations import OPERATIONS
from acclimate.augmentation.prior import (
    CONFIDENCE,
    CostPrior,
    SharePrior,
    expected_share,
    joined,
    operation_prior,
)
from acclimate.evaluation.comparison import paired_interval
from acclimate.evaluation.metrics import Interval

PHOTOGRAPHS = DataKind(color=True, photographs=True, characters=False, exchanged={})
SCANS = DataKind(color=False, photographs=False, characters=True, exchanged={})
points = st.floats(-20, 20)


def interval(value, error):
    return Interval(value, value - 1.645 * error, value + 1.645 * error)


@given(points, st.floats(0.01, 10), points, st.floats(0.1, 5))
def test_the_estimate_lies_between_the_measured_and_the_usual_cost(value, error, mean, spread):
    found = joined(interval(value, error), CostPrior(mean, spread)).value
    assert min(value, mean) - 1e-6 <= found <= max(value, mean) + 1e-6


@given(points, points, st.floats(0.1, 10))
def test_more_images_bring_it_closer_to_what_was_measured(value, mean, error):
    assume(abs(value - mean) > 1e-3)
    prior = CostPrior(mean)
    few, many = (joined(interval(value, e), prior) for e in (error, error / 2))
    assert abs(many.value - value) < abs(few.value - value)
    assert many.error < few.error


@given(st.integers(40, 400), st.floats(0, 0.3))
def test_more_lost_images_are_never_expected_to_cost_less(images, part):
    lost = int(part * images)
    costs = []
    for number in (lost, lost + 1):
        drop = paired_interval(number, 0, images, CONFIDENCE)
        costs.append(Interval(100 * drop.value, 100 * drop.low, 100 * drop.high))
    first, second = (joined(cost, CostPrior(0.0, 5.0)).value for cost in costs)
    assert second >= first - 0.05  # the interval widens a little, too


@given(st.integers(1, 500), st.floats(0, 1))
def test_a_share_moves_from_the_usual_one_towards_the_measured_one(images, part):
    detected, prior = int(part * images), SharePrior(0.55)
    found = expected_share(detected, images, prior)
    low, high = sorted((detected / images, prior.mean))
    assert low - 1e-9 <= found <= high + 1e-9
    assert abs(expected_share(10 * detected, 10 * images, prior) - detected / images) <= abs(
        found - detected / images
    )


@pytest.mark.parametrize("name", ["crop", "jitter", *OPERATIONS])
def test_stronger_operations_usually_cost_more(name):
    for kind in (PHOTOGRAPHS, SCANS):
        costs = [operation_prior(name, strength, kind).mean for strength in (0.25, 0.5, 1.0)]
        assert costs == sorted(costs)
        assert 0 < costs[0] < costs[-1]


def test_hiding_a_part_usually_costs_more_where_a_few_strokes_make_the_label():
    erased = [operation_prior("erase", 1.0, kind).mean for kind in (PHOTOGRAPHS, SCANS)]
    assert erased[1] > 2 * erased[0]
