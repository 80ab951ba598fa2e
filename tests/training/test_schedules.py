"""Warm-up, then the schedule."""

import pytest

from acclimate.training.schedules import constant, cosine, factor


def test_cosine_goes_through_half_in_the_middle_and_ends_at_zero():
    assert [cosine(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.5, 0.0])


def test_constant_stays():
    assert {constant(p / 10) for p in range(10)} == {1.0}


def test_warm_up_rises_in_equal_steps_and_the_peak_comes_right_after_it():
    values = [factor("constant", step, 20, 0.2) for step in range(20)]
    assert values[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert values[4:] == [1.0] * 16


def test_without_warm_up_the_first_step_is_at_the_peak():
    assert factor("cosine", 0, 10, 0.0) == 1.0


def test_the_last_step_still_learns():
    assert 0 < factor("cosine", 99, 100, 0.1) < 0.001


def test_a_training_of_one_step_learns_at_the_peak():
    assert factor("cosine", 0, 1, 0.1) == 1.0
