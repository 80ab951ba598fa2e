"""Ranges of activations for static quantization, all from one histogram of each activation."""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    TensorsData,
    create_calibrator,
)

Batch = dict[str, NDArray[np.float32]]
Range = tuple[np.float32, np.float32]
_BINS = 4096
_LEVELS = 255
"""Steps of an 8-bit activation."""
_SHRINK = np.linspace(1.0, 0.2, 81)


@dataclass(frozen=True)
class Histogram:
    """The values of one activation on the calibration images.

    Attributes:
        low: Smallest value.
        high: Largest value.
        counts: (b,): number of values in each bin.
        edges: (b + 1,), increasing, symmetric around 0.
    """

    low: np.float32
    high: np.float32
    counts: NDArray[np.int64]
    edges: NDArray[np.float32]

    @property
    def centers(self) -> NDArray[np.float64]:
        """(b,): the middle of each bin."""
        edges = self.edges.astype(np.float64)
        return (edges[:-1] + edges[1:]) / 2

    def within(self, limit: float) -> Range:
        """The part of the range whose absolute values are at most `limit`."""
        return max(self.low, np.float32(-limit)), min(self.high, np.float32(limit))


def full_range(values: Histogram) -> Range:
    """The whole range."""
    return values.low, values.high


def percentile(part: float) -> Callable[[Histogram], Range]:
    """Ranges that clip a part of the values, those that are farthest from 0.

    Args:
        part: In [0, 1).

    Returns:
        A function from a histogram to a range.
    """

    def clipped(values: Histogram) -> Range:
        distance = np.abs(values.centers)
        order = np.argsort(distance, kind="stable")
        inside = np.cumsum(values.counts[order]) / max(values.counts.sum(), 1)
        last = order[min(int(np.searchsorted(inside, 1 - part)), len(order) - 1)]
        return values.within(float(np.abs(values.edges[[last, last + 1]]).max()))

    return clipped


def least_squares(values: Histogram) -> Range:
    """The range with the smallest mean squared error of 8-bit rounding and clipping.

    Source: Banner et al. 2018, arXiv 1810.05723; here on the histogram and not on a fitted
    distribution. Both ends shrink by the same factor.

    Args:
        values: Of one activation.

    Returns:
        The range.
    """
    centers, counts = values.centers, values.counts
    best, least = full_range(values), np.inf
    for factor in _SHRINK:
        low, high = float(values.low) * factor, float(values.high) * factor
        beyond = centers - np.clip(centers, low, high)
        step = (max(high, 0.0) - min(low, 0.0)) / _LEVELS
        error = float((counts * np.where(beyond == 0, step**2 / 12, beyond**2)).sum())
        if error < least:
            best, least = (np.float32(low), np.float32(high)), error
    return best


def measure_range(graph: Path, batches: Iterable[Batch]) -> TensorsData:
    """The full range of each activation, faster than by histograms.

    Args:
        graph: ONNX file.
        batches: The calibration images.

    Returns:
        Activation to range, as ONNX Runtime wants it.
    """
    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(graph, augmented_model_path=f"{folder}/graph.onnx")
        calibrator.collect_data(Reader(batches))
        return calibrator.compute_data()


def measure_histograms(graph: Path, batches: Iterable[Batch]) -> dict[str, Histogram]:
    """The histogram of each activation.

    Args:
        graph: ONNX file.
        batches: The calibration images; only one batch of activations is in memory at a time.

    Returns:
        Activation to histogram.
    """
    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(
            graph,
            augmented_model_path=f"{folder}/graph.onnx",
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"symmetric": False, "num_bins": _BINS},
        )
        for batch in batches:
            calibrator.collect_data(Reader([batch]))
    found = calibrator.collector.get_histogram_dict()
    return {
        name: Histogram(low, high, counts.astype(np.int64), edges.astype(np.float32))
        for name, (counts, edges, low, high, _) in found.items()
    }


def ranges(
    histograms: Mapping[str, Histogram], range_of: Callable[[Histogram], Range]
) -> TensorsData:
    """Ranges from histograms, as ONNX Runtime wants them.

    Args:
        histograms: Activation to histogram.
        range_of: `full_range`, `percentile(part)` or `least_squares`.

    Returns:
        Activation to range.
    """
    found = {name: range_of(values) for name, values in histograms.items()}
    return TensorsData(CalibrationMethod.MinMax, found)


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Batches in the class that ONNX Runtime requires."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> Batch | None:
        """The next batch, or None at the end."""
        return next(self._batches, None)
