"""Static int8 quantization in QDQ format by ONNX Runtime, in several schemes."""

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_static,
)

from acclimate.compression.settings import Quantize
from acclimate.data.dataset import Dataset, Rows
from acclimate.data.images.batches import ordered_batches
from acclimate.models.classifier import Classifier


@dataclass(frozen=True)
class Scheme:
    """Integer types of activations and weights.

    Attributes:
        name: Name in the report.
        activations: Type of the activations.
        reduce_range: Whether weights use 7 bits. On processors without VNNI, sums of 8-bit
            products overflow 16 bits and are clipped.
    """

    name: str
    activations: QuantType
    reduce_range: bool


SCHEMES = (
    Scheme("U8S8", QuantType.QUInt8, False),
    Scheme("U8S8, 7-bit weights", QuantType.QUInt8, True),
    Scheme("S8S8", QuantType.QInt8, False),
)
"""In the order in which they are tried. Weights are S8 with one scale per channel."""


@dataclass(frozen=True)
class Quantized:
    """One int8 graph that a quantizer offers.

    Attributes:
        name: Name of the scheme, for the report.
        graph: Bytes of the ONNX file.
    """

    name: str
    graph: bytes


def static(
    classifier: Classifier, dataset: Dataset, rows: Rows, settings: Quantize
) -> Iterator[Quantized]:
    """Quantizes in QDQ format, one scheme after the other.

    Args:
        classifier: Exported, float32.
        dataset: The images.
        rows: The calibration set.
        settings: Percentile, and whether the head stays in float32.

    Yields:
        Quantized: A graph for each scheme. The caller stops at the first one it accepts.
    """
    for scheme in SCHEMES:
        yield Quantized(scheme.name, quantize_with(classifier, dataset, rows, settings, scheme))


def quantize_with(
    classifier: Classifier, dataset: Dataset, rows: Rows, settings: Quantize, scheme: Scheme
) -> bytes:
    """Quantizes a graph in one scheme.

    Args:
        classifier: Exported, float32.
        dataset: The images.
        rows: The calibration set.
        settings: Percentile, and whether the head stays in float32.
        scheme: Integer types.

    Returns:
        Bytes of the ONNX file.
    """
    assert classifier.graph is not None
    with tempfile.TemporaryDirectory() as name, _quiet():
        folder = Path(name)
        start, ready, done = (folder / f"{n}.onnx" for n in ("float", "ready", "int8"))
        start.write_bytes(classifier.graph)
        quant_pre_process(start, ready, skip_symbolic_shape=True)
        options = {}
        method = CalibrationMethod.MinMax
        if settings.percentile:
            method = CalibrationMethod.Percentile
            options["CalibPercentile"] = 100 * (1 - settings.percentile)
        quantize_static(
            ready,
            done,
            _CalibrationReader(classifier, dataset, rows),
            quant_format=QuantFormat.QDQ,
            activation_type=scheme.activations,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=scheme.reduce_range,
            calibrate_method=method,
            nodes_to_exclude=_head_nodes(ready) if settings.keep_head_float else [],
            extra_options=options,
        )
        return done.read_bytes()


class _CalibrationReader(CalibrationDataReader):  # type: ignore[misc]
    """Batches of the calibration set, in the class that ONNX Runtime requires."""

    def __init__(self, classifier: Classifier, dataset: Dataset, rows: Rows) -> None:
        self._batches = self._read(classifier, dataset, rows)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next batch, or None at the end."""
        return next(self._batches, None)

    @staticmethod
    def _read(
        classifier: Classifier, dataset: Dataset, rows: Rows
    ) -> Iterator[dict[str, NDArray[np.float32]]]:
        assert classifier.graph is not None
        first = onnx.load_from_string(classifier.graph).graph.input[0].type.tensor_type.shape.dim[0]
        # A graph from elsewhere may have a fixed batch size.
        size = first.dim_value or _even_batch_size(len(rows))
        for batch in ordered_batches(dataset, rows, classifier.contract, batch_size=size):
            yield {"images": classifier.contract.normalize(batch.images)}


def _even_batch_size(images: int) -> int:
    """A batch size that divides the images evenly: histograms need batches of one shape."""
    return max(size for size in range(1, 33) if images % size == 0)


def _head_nodes(path: Path) -> list[str]:
    """The names of the nodes that compute the logits."""
    graph = onnx.load(path).graph
    last = graph.output[0].name
    return [node.name for node in graph.node if last in node.output]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides what ONNX Runtime prints and logs to the root logger, except errors."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
