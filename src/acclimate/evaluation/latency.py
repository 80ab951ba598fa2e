"""Measures the latency of classifiers on this machine, after warm-up and in turns."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from acclimate.models.runtime import Run

_ROUNDS, _BATCH, _SINGLE_PER_ROUND = 7, 32, 9


@dataclass(frozen=True)
class Latency:
    """Latency and throughput on this machine.

    Attributes:
        p50_ms: Time for one image, median.
        p95_ms: Time for one image, 95th percentile.
        images_per_s: Throughput in batches of 32, median of the rounds.
    """

    p50_ms: float
    p95_ms: float
    images_per_s: float


def measure_latency(runs: Mapping[str, Run], image_sizes: Mapping[str, int]) -> dict[str, Latency]:
    """Measures several classifiers in turns, so that changes of the machine affect all alike.

    Decoding is not included.

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
    single: dict[str, list[float]] = {name: [] for name in runs}
    batch: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(_ROUNDS):
        for name, run in runs.items():
            some = images[name]
            single[name] += [_seconds(lambda: run(some[:1])) for _ in range(_SINGLE_PER_ROUND)]  # noqa: B023 - called at once
            batch[name].append(_seconds(lambda: run(some)))  # noqa: B023 - called at once
    return {
        name: Latency(
            p50_ms=float(np.median(single[name])) * 1e3,
            p95_ms=float(np.quantile(single[name], 0.95)) * 1e3,
            images_per_s=_BATCH / float(np.median(batch[name])),
        )
        for name in runs
    }


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
