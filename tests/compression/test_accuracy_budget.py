"""The bound of the accuracy drop: it holds as often as it says, also for the best of many."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acclimate.compression.accuracy_budget import (
    AccuracyDrop,
    accuracy_drop,
    certifiable_drop,
    images_needed,
)

drops = st.builds(
    lambda images, lost, gained: AccuracyDrop(
        images, int(lost * images / 2), int(gained * images / 2), 0.0
    ),
    st.integers(20, 5_000),
    st.floats(0, 0.9),
    st.floats(0, 0.9),
)


def test_only_images_where_exactly_one_model_is_right_count():
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    before = np.array([0, 0, 1, 1, 0, 2, 2, 0])
    after = np.array([0, 1, 0, 1, 2, 2, 2, 1])
    drop = accuracy_drop(labels, before, after)
    assert (drop.images, drop.lost, drop.gained) == (8, 1, 1)
    assert drop.flips == 4 / 8
    assert drop.estimate == 0.0
    assert str(drop) == "val accuracy stays the same"


@pytest.mark.parametrize(
    ("lost", "gained", "text"), [(3, 1, "drops by 1 points"), (1, 3, "rises by 1 points")]
)
def test_the_change_is_said_in_words(lost, gained, text):
    assert str(AccuracyDrop(200, lost, gained, 0.02)).endswith(text)


@given(drops, st.floats(0.6, 0.99), st.integers(1, 20))
def test_the_bound_is_above_the_estimate_and_grows_with_confidence(drop, confidence, more):
    bound = drop.upper_bound(confidence)
    assert bound >= drop.estimate - 1e-9
    assert drop.upper_bound(confidence, 1 + more) >= bound - 1e-9
    assert drop.upper_bound((1 + confidence) / 2) >= bound - 1e-9


def test_the_bound_is_exceeded_as_seldom_as_it_says():
    """Also for the candidate that looks best, if all comparisons are counted."""
    rng = np.random.default_rng(0)
    lost, gained, images, candidates = 0.02, 0.01, 500, 5
    true, runs = 100 * (lost - gained), 400
    single = best = 0
    for _ in range(runs):
        counts = rng.multinomial(images, (lost, gained, 1 - lost - gained), candidates)
        found = [AccuracyDrop(images, int(a), int(b), 0.0) for a, b, _ in counts]
        single += found[0].upper_bound(0.95) < true
        best += min(one.upper_bound(0.95, candidates) for one in found) < true
    assert single / runs < 0.085
    assert best / runs < 0.085


@given(st.integers(50, 20_000), st.floats(0.001, 0.1))
def test_more_images_show_smaller_drops(images, flips):
    assert certifiable_drop(2 * images, 0.95, flips=flips) < certifiable_drop(
        images, 0.95, flips=flips
    )


@pytest.mark.parametrize("drop", [0.2, 0.5, 1.0, 3.0])
def test_as_many_images_as_are_said_to_be_needed_are_enough(drop):
    needed = images_needed(drop, 0.95, 4)
    assert certifiable_drop(needed, 0.95, 4) <= drop < certifiable_drop(needed // 2, 0.95, 4)


def test_about_a_thousand_images_show_half_a_point():
    assert 1_000 <= images_needed(0.5, 0.95) <= 1_400
