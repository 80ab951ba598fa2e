"""What every schedule keeps, whichever it is."""

import typing
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.training.optim.schedules import SCHEDULES, factor
from acclimate.training.settings import ScheduleName

every = pytest.mark.parametrize("name", SCHEDULES)
steps = st.integers(1, 500)
warmups = st.floats(0, 0.999)


def test_the_suite_covers_every_schedule():
    assert set(SCHEDULES) == set(typing.get_args(ScheduleName))
    assert len(SCHEDULES) == 4


@every
def test_it_starts_at_the_peak_and_never_rises_or_leaves_zero_to_one(name):
    values = [SCHEDULES[name](i / 1000) for i in range(1000)]
    assert values[0] == 1.0
    assert all(0 < later <= earlier <= 1 for earlier, later in pairwise(values))


@every
@settings(deadline=None, max_examples=40)
@given(steps=steps, warmup=warmups)
def test_every_step_has_a_rate_above_zero_and_not_above_the_peak(name, steps, warmup):
    values = [factor(name, step, steps, warmup) for step in range(steps)]
    assert all(0 < value <= 1 for value in values)


@every
@settings(deadline=None, max_examples=40)
@given(steps=steps, warmup=warmups)
def test_it_rises_in_warm_up_and_not_after(name, steps, warmup):
    rising = round(warmup * steps)
    values = [factor(name, step, steps, warmup) for step in range(steps)]
    warm, rest = values[:rising], values[rising:]
    assert all(a < b for a, b in pairwise(warm))
    assert all(a >= b for a, b in pairwise(rest))
    assert not rest or rest[0] == 1.0
