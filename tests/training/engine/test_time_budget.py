"""How far a training is, and when its time is up."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from lightning_fabric import Fabric

from acclimate.context import Context
from acclimate.fine_tuning.settings import FineTune
from acclimate.training.engine.loop import train
from acclimate.training.engine.time_budget import TimeBudget, with_time_left
from acclimate.training.optim.optimizers import adamw
from acclimate.training.plan import make_plan
from kit import Recorder, TensorBatches, cross_entropy, mlp, same_weights

HERE = Context(device="cpu")


class Clock:
    """Stands in for the machine's: it goes when it is told to."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        here = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr("acclimate.training.engine.time_budget.time", here)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def budget(steps=10, spent=0.0, **settings):
    plan = make_plan(FineTune(**settings), 1000, HERE)
    return TimeBudget(plan, steps, Fabric(accelerator="cpu", devices=1), spent)


def test_by_steps_the_clock_changes_nothing(clock):
    made = budget(epochs=4, warmup=0.0)
    assert made.factor(0) == 1.0
    clock.now += 1e6
    assert made.factor(20) == pytest.approx(0.5)
    assert not made.over()


def test_with_a_budget_the_rate_goes_by_the_time_that_is_gone(clock):
    made = budget(max_minutes=10, warmup=0.1)
    assert made.factor(0) < 1e-4
    clock.now += 60
    assert made.factor(1) == pytest.approx(1.0, abs=1e-3)
    for step in range(2, 272):
        clock.now += 1
        rate = made.factor(step)
    assert rate == pytest.approx(0.5, abs=1e-2)
    assert not made.over()


def test_time_is_left_for_another_step_and_another_validation(clock):
    made = budget(max_minutes=10)
    made.note_validation(10.0)
    made.factor(0)
    clock.now += 5
    made.factor(1)
    clock.now += 600 - 13 - 5 - 5 - 1
    assert not made.over()
    clock.now += 2
    assert made.over()
    assert 600 - made.seconds > 10 + 5


def test_a_validation_between_two_epochs_is_no_long_step(clock):
    made = budget(steps=2, max_minutes=10)
    made.factor(0)
    clock.now += 1
    made.factor(1)
    clock.now += 300
    made.factor(2)
    assert not made.over()
    clock.now += 200
    assert not made.over()


def test_a_rate_is_never_below_zero_even_late(clock):
    made = budget(max_minutes=1)
    clock.now += 1000
    assert 0 <= made.factor(0) < 1e-6


def test_time_before_a_kill_counts(clock):
    assert budget(max_minutes=10, spent=601.0).over()
    assert not budget(max_minutes=10, spent=500.0).over()


def test_patience_is_half_of_the_epochs_that_fit(clock):
    made = budget(max_minutes=10)
    clock.now += 60
    assert made.patience(4) == 20
    clock.now += 500
    assert made.patience(4) == 5
    assert budget(max_minutes=10, patience=3).patience(4) == 3


def test_the_time_for_what_comes_before_is_taken_off(clock):
    plan = make_plan(FineTune(max_minutes=10), 1000, HERE)
    assert with_time_left(plan, clock.now - 120).max_minutes == pytest.approx(8)
    assert with_time_left(plan, clock.now - 1e4).max_minutes == 0
    counted = make_plan(FineTune(epochs=2), 1000, HERE)
    assert with_time_left(counted, clock.now - 120) is counted


@pytest.fixture
def timed(context, monkeypatch):
    """A training of so many seconds on a clock of its own, a second a step."""

    def go(seconds, spent_by_step=1.0, **facts):
        clock = Clock(monkeypatch)
        began = clock.now

        def slow(groups):
            optimizer = adamw(groups)
            step = optimizer.step

            def stepped(*args, **kwargs):
                clock.now += spent_by_step
                return step(*args, **kwargs)

            optimizer.step = stepped
            return optimizer

        settings = FineTune(max_minutes=seconds / 60, batch_size=60, learning_rate=1e-2)
        plan, here = make_plan(settings, 180, context), replace(context, **facts)
        source = TensorBatches(plan.batch_size)
        trained = train(mlp(), source, cross_entropy, plan, context=here, optimizer=slow)
        return trained, clock.now - began

    return go


def test_a_training_ends_inside_its_budget_and_near_its_end(timed):
    recorder = Recorder()
    trained, seconds = timed(8, progress=recorder)
    assert 6 <= seconds <= 8
    assert [e.epoch for e in trained.curve] == [0, 1, 2, 3]
    assert trained.curve[-1].learning_rate < 0.2e-2
    assert any(re.match(r"epoch 3 \(0\.1\d* of 0\.133 min\): ", line) for line in recorder.lines)


def test_a_budget_that_is_gone_leaves_the_start(timed):
    trained, _ = timed(1e-6)
    assert [e.epoch for e in trained.curve] == [0]
    assert same_weights(trained.network, mlp())


def test_a_killed_run_goes_on_with_the_time_that_was_left(timed, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        timed(8, workspace=tmp_path, progress=Recorder(at_advance=5))
    trained, seconds = timed(8, workspace=tmp_path)
    assert 3 <= seconds <= 5
    assert trained.curve[-1].seconds <= 8
    assert torch.isfinite(torch.tensor(trained.curve[-1].train_loss))
