"""Progress: nothing by default, or plain lines in a log."""

import logging
from types import SimpleNamespace

import pytest

from acclimate import progress
from acclimate.progress import LogProgress, silent


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests advance."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "acclimate")
    return lambda: [record.getMessage() for record in caplog.records]


def test_silent_progress_shows_nothing(capfd, lines):
    silent.info("hello")
    with silent.task("work", 10) as task:
        task.advance(5)
        task.note("halfway")
    assert lines() == []
    assert capfd.readouterr() == ("", "")


def test_a_message_is_logged_as_it_is(lines):
    LogProgress().info("probe: val accuracy 0.9")
    assert lines() == ["probe: val accuracy 0.9"]


def test_short_tasks_log_nothing(lines, clock):
    with LogProgress().task("clean", 10) as task:
        task.advance(10)
        clock.now += 2.0
    assert lines() == []


def test_tasks_longer_than_two_seconds_log_their_count_and_time(lines, clock):
    with LogProgress().task("clean", 1200) as task:
        task.advance(1200)
        clock.now += 2.1
    assert lines() == ["clean: 1,200 images in 2.1 s"]


def test_long_tasks_log_rate_and_time_left_every_ten_seconds(lines, clock):
    with LogProgress().task("epoch 1", 100, "steps") as task:
        task.note("loss 2.303")
        for _ in range(25):
            clock.now += 1
            task.advance(2)
            task.note(f"loss {clock.now:.0f}")
    assert lines() == [
        "epoch 1: 20 of 100 steps, 2/s, 40 s left, loss 109",
        "epoch 1: 40 of 100 steps, 2/s, 30 s left, loss 119",
        "epoch 1: 50 steps in 25.0 s",
    ]


def test_tasks_that_fail_log_no_total_time(lines, clock):
    def stopped():
        with LogProgress().task("clean", 10) as task:
            task.advance()
            clock.now += 5
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert lines() == []


def test_a_long_first_step_does_not_divide_by_zero(lines, clock):
    with LogProgress().task("export", 3) as task:
        clock.now += 30
        task.advance(0)
    assert lines() == ["export: 0 of 3 images, 0/s, 0 s left", "export: 0 images in 30.0 s"]
