"""Warm-up, then the schedule."""

import pytest
import torch

from acclimate.training.optim.optimizers import OPTIMIZERS
from acclimate.training.optim.schedules import constant, cosine, factor, linear, set_rates


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


def test_a_straight_line_is_straight():
    assert [linear(p) for p in (0.0, 0.25, 1.0)] == pytest.approx([1.0, 0.75, 0.0])


def optimizer_of(name):
    weight = torch.nn.Parameter(torch.ones(4, 4))
    group = {"params": [weight], "lr": 0.5, "peak": 0.5, "weight_decay": 0.0}
    return OPTIMIZERS[name].create([group])


@pytest.mark.parametrize(
    ("name", "momentum"),
    [
        ("adamw", lambda group: group["betas"][0]),
        ("lion", lambda group: group["betas"][0]),
        ("sgd", lambda group: group["momentum"]),
    ],
)
def test_under_one_cycle_momentum_falls_while_the_rate_rises(name, momentum):
    optimizer = optimizer_of(name)
    usual = momentum(optimizer.param_groups[0])
    set_rates(optimizer, "cosine", 0.5)
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert momentum(optimizer.param_groups[0]) == usual
    seen = []
    for rate in (0.0, 0.5, 1.0):
        set_rates(optimizer, "one_cycle", rate)
        seen.append(momentum(optimizer.param_groups[0]))
    assert seen == pytest.approx([0.95, 0.9, 0.85])
