"""Measures the latency of classifiers on this machine, after warm-up and in turns."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from acclimate.cpu import SHORTEST_S, OtherWork, is_busy
from acclimate.data.images.contract import Pixels
from acclimate.models.runtime import Run

_ROUNDS, _MOST_ROUNDS = 7, 28
_SHORTEST_S, _LONGEST_S = SHORTEST_S, 10.0
"""Seconds of measuring: at least enough to see what other processes take."""
_BATCH, _SINGLE_PER_ROUND = 32, 9
_STEADY = 0.15
"""Largest spread of a measurement that is trusted."""


@dataclass(frozen=True)
class Latency:
    """Latency and throughput on this machine.

    Attributes:
        p50_ms: Time for one image, median.
        p95_ms: Time for one image, 95th percentile.
        images_per_s: Throughput in batches of 32, median of the rounds.
        spread: How much the rounds differ: the distance of their quartiles over their median, of
            single images or of batches, whichever is larger; 0 if it was not measured.
        busy: Whether the machine was busy or the rounds differ too much, so that the figures are
            not reliable.
    """

    p50_ms: float
    p95_ms: float
    images_per_s: float
    spread: float = 0.0
    busy: bool = False


@dataclass
class _Times:
    """Seconds of one classifier: for each round, of single images and of a batch."""

    single: list[list[float]] = field(default_factory=list)
    batch: list[float] = field(default_factory=list)

    def spread(self) -> float:
        """The larger spread of single images and of batches."""
        return max(_spread([float(np.median(some)) for some in self.single]), _spread(self.batch))


def measure_latency(runs: Mapping[str, Run], image_sizes: Mapping[str, int]) -> dict[str, Latency]:
    """Measures several classifiers in turns, so that changes of the machine affect all alike.

    Decoding is not included. If the rounds differ too much, four times as many are measured.

    Args:
        runs: Name to a function from pixels to logits.
        image_sizes: Name to image size in px.

    Returns:
        Name to latency.
    """
    rng = np.random.default_rng(0)
    images = {
        name: rng.integers(0, 256, (_BATCH, size, size, 3), dtype=np.uint8)
        for name, size in image_sizes.items()
    }
    for name, run in runs.items():  # warm-up: the first calls allocate memory and choose kernels
        for _ in range(2):
            run(images[name])
            run(images[name][:1])
    times = {name: _Times() for name in runs}
    others = OtherWork()
    began, rounds = time.monotonic(), 0
    while _go_on(rounds, time.monotonic() - began, times):
        rounds += 1
        for name, run in runs.items():
            _measure_round(run, images[name], times[name])
    taken = others.cores()
    busy = taken is not None and is_busy(taken)
    return {name: _latency(found, busy=busy) for name, found in times.items()}


def _go_on(rounds: int, seconds: float, times: Mapping[str, _Times]) -> bool:
    """Whether another round is needed."""
    if rounds < _ROUNDS or seconds < _SHORTEST_S:
        return True
    if rounds >= _MOST_ROUNDS or seconds >= _LONGEST_S:
        return False
    return any(found.spread() > _STEADY for found in times.values())


def _measure_round(run: Run, images: Pixels, times: _Times) -> None:
    times.single.append([_seconds(lambda: run(images[:1])) for _ in range(_SINGLE_PER_ROUND)])
    times.batch.append(_seconds(lambda: run(images)))


def _latency(times: _Times, *, busy: bool) -> Latency:
    spread = times.spread()
    return Latency(
        p50_ms=float(np.median(times.single)) * 1e3,
        p95_ms=float(np.quantile(times.single, 0.95)) * 1e3,
        images_per_s=_BATCH / float(np.median(times.batch)),
        spread=spread,
        busy=busy or spread > _STEADY,
    )


def _spread(values: list[float]) -> float:
    """The distance of the quartiles over the median."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float((high - low) / middle)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
