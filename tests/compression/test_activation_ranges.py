"""Ranges of activations from histograms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acclimate.compression.activation_ranges import (
    Histogram,
    full_range,
    least_squares,
    percentile,
)


def histogram(values, bins=4096):
    values = np.asarray(values, np.float32)
    limit = float(np.abs(values).max()) or 1.0
    counts, edges = np.histogram(values, bins, range=(-limit, limit))
    return Histogram(values.min(), values.max(), counts, edges.astype(np.float32))


NORMAL = np.random.default_rng(0).standard_normal(100_000)


def test_the_full_range_is_that_of_the_values():
    assert full_range(histogram([-1.0, 0.5, 3.0])) == (-1.0, 3.0)


@pytest.mark.parametrize("part", [0.3, 0.05, 0.001])
def test_a_percentile_clips_the_part_it_says(part):
    low, high = percentile(part)(histogram(NORMAL))
    assert np.mean((low > NORMAL) | (high < NORMAL)) == pytest.approx(part, rel=0.1)


def test_values_after_a_relu_keep_their_zero():
    low, high = percentile(0.01)(histogram(np.maximum(NORMAL, 0)))
    assert low == 0
    assert 2 < high < 2.5


def test_least_squares_clips_a_single_outlier_and_leaves_even_values_whole():
    _, high = least_squares(histogram([*NORMAL, 30.0]))
    assert high < 27
    even = histogram(np.linspace(-1, 1, 10_001))
    assert least_squares(even) == full_range(even)


def error(values, low, high):
    step = (max(high, 0) - min(low, 0)) / 255
    return np.mean((np.round(np.clip(values, low, high) / step) * step - values) ** 2)


@given(st.floats(1.0, 20.0), st.floats(0.0, 1.0))
def test_least_squares_is_never_worse_than_the_full_range(spread, skew):
    values = NORMAL * np.where(NORMAL > 0, spread, 1.0) + skew
    whole, best = (error(values, *f(histogram(values))) for f in (full_range, least_squares))
    assert best <= 1.02 * whole  # the histogram has bins of a certain width
