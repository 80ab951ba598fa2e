"""Times on this machine, taken in turns."""

import time
from itertools import pairwise

import numpy as np

from acclimate.evaluation.latency import measure_latency


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
