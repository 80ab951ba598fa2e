"""Times on this machine, taken in turns."""

import time
from itertools import count, pairwise

import numpy as np
import pytest

from acclimate.evaluation import latency
from acclimate.evaluation.latency import Latency, measure_latency
from kit import MEASURED_S


@pytest.fixture(autouse=True)
def _as_long_as_users_do(monkeypatch):
    monkeypatch.setattr(latency, "_SHORTEST_S", MEASURED_S[0])
    monkeypatch.setattr(latency, "_LONGEST_S", MEASURED_S[1])


def runner(seconds_an_image, met=None):
    """Runs nothing, for so long."""

    def run(images):
        if met is not None:
            met.append(images)
        time.sleep(seconds_an_image * len(images))
        return np.zeros((len(images), 2), np.float32)

    return run


def test_times_are_those_that_an_image_takes():
    found = measure_latency({"a": runner(2e-3)}, {"a": 8})["a"]
    assert 2 <= found.p50_ms < 20
    assert found.p50_ms <= found.p95_ms
    assert 50 < found.images_per_s <= 500


def test_the_slower_one_is_measured_as_slower():
    found = measure_latency({"slow": runner(1.5e-3), "fast": runner(1e-4)}, {"slow": 8, "fast": 8})
    assert list(found) == ["slow", "fast"]
    assert found["slow"].p50_ms > found["fast"].p50_ms
    assert found["slow"].images_per_s < found["fast"].images_per_s


def test_each_is_given_images_of_its_own_size_alone_and_in_batches():
    met = {"a": [], "b": []}
    measure_latency({name: runner(0, met[name]) for name in met}, {"a": 8, "b": 12})
    for name, size in (("a", 8), ("b", 12)):
        assert {images.shape[1:] for images in met[name]} == {(size, size, 3)}
        assert {len(images) for images in met[name]} == {1, 32}
        assert all(images.dtype == np.uint8 for images in met[name])
        assert np.ptp(met[name][0]) > 200


def test_rivals_take_turns_so_that_a_drifting_machine_is_fair_to_both():
    order = []

    def named(name):
        def run(images):
            order.append(name)
            return np.zeros((len(images), 2), np.float32)

        return run

    measure_latency({"a": named("a"), "b": named("b")}, {"a": 8, "b": 8})
    turns = sum(first != second for first, second in pairwise(order))
    assert order.count("a") == order.count("b")
    assert turns >= 13


def test_first_calls_that_are_slow_are_not_counted():
    calls = []

    def run(images):
        calls.append(1)
        time.sleep(0.15 if len(calls) <= 4 else 1e-4)
        return np.zeros((len(images), 2), np.float32)

    found = measure_latency({"a": run}, {"a": 8})["a"]
    assert found.p95_ms < 100


class Clock:
    """Time that passes only while a classifier runs, and a share of the cores that others take."""

    def __init__(self, taken=0.0):
        self.now, self.taken = 0.0, taken

    def cores(self):
        return self.taken

    def runner(self, seconds):
        """Takes `seconds(call)` for an image; calls are counted from 0, the warm-up included."""
        calls = count()

        def run(images):
            self.now += seconds(next(calls)) * len(images)
            return np.zeros((len(images), 2), np.float32)

        return run


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(latency.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(latency.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(latency, "OtherWork", lambda: clock)
    monkeypatch.setattr("acclimate.cpu.core_count", lambda: 2)
    monkeypatch.setattr("acclimate.cpu.usable_cores", lambda: 2)
    return clock


def test_on_a_quiet_machine_seven_rounds_are_enough_and_trusted(clock):
    calls = []
    run = clock.runner(lambda call: calls.append(call) or 0.01)
    found = measure_latency({"a": run}, {"a": 8})["a"]
    assert found == Latency(
        pytest.approx(10), pytest.approx(10), pytest.approx(100), pytest.approx(0)
    )
    assert len(calls) == 4 + 7 * 10


def test_rounds_that_scatter_are_measured_longer_and_trusted_if_that_settles_it(clock):
    # A disturbance in the first three rounds; the other calls take the same time.
    run = clock.runner(lambda call: 0.002 if call >= 34 else 0.002 * (1 + call % 3))
    found = measure_latency({"a": run}, {"a": 8})["a"]
    assert found.p50_ms == pytest.approx(2)
    assert not found.busy


def test_times_that_never_settle_are_marked(clock):
    run = clock.runner(lambda call: 0.001 if call // 10 % 2 else 0.02)
    found = measure_latency({"a": run}, {"a": 8})["a"]
    assert found.busy
    assert found.spread > 0.5


@pytest.mark.parametrize(("taken", "busy"), [(None, False), (0.4, False), (1.3, True)])
def test_a_measurement_beside_the_work_of_others_is_marked(clock, taken, busy):
    clock.taken = taken
    found = measure_latency({"a": clock.runner(lambda _: 0.01)}, {"a": 8})["a"]
    assert found.busy == busy


def test_a_slow_model_that_scatters_is_measured_for_ten_seconds_more(clock):
    run = clock.runner(lambda call: 0.1 if call // 10 % 2 else 0.2)
    measure_latency({"a": run}, {"a": 8})
    assert 40 < clock.now < 60
