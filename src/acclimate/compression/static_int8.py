"""Static int8 in QDQ form, through ONNX Runtime, in each of the ways that 8 bits can be used."""

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
    """Number types of activations and weights.

    Attributes:
        name: For the report.
        activations: Type of the activations.
        reduce_range: Whether weights use 7 bits. On processors without VNNI, products of 8-bit
            numbers overflow their 16-bit sums and are clipped.
    """

    name: str
    activations: QuantType
    reduce_range: bool


SCHEMES = (
    Scheme("U8S8", QuantType.QUInt8, False),
    Scheme("U8S8, 7-bit weights", QuantType.QUInt8, True),
    Scheme("S8S8", QuantType.QInt8, False),
)
"""In the order in which they are tried; weights are S8 with one scale per channel."""


@dataclass(frozen=True)
class Quantized:
    """One int8 graph that a quantizer offers.

    Attributes:
        name: How it was made, for the report.
        graph: Bytes of the ONNX file.
    """

    name: str
    graph: bytes


def static(
    classifier: Classifier, dataset: Dataset, rows: Rows, settings: Quantize
) -> Iterator[Quantized]:
    """Static quantization in QDQ form, one scheme after the other.

    Args:
        classifier: Exported, float32.
        dataset: The images.
        rows: The calibration set.
        settings: Percentile, and whether the head stays float.

    Yields:
        Quantized: A graph for each scheme; the caller stops at the first one that is good
            enough.
    """
    for scheme in SCHEMES:
        yield Quantized(scheme.name, quantize_with(classifier, dataset, rows, settings, scheme))


def quantize_with(
    classifier: Classifier, dataset: Dataset, rows: Rows, settings: Quantize, scheme: Scheme
) -> bytes:
    """Writes one int8 graph.

    Args:
        classifier: Exported, float32.
        dataset: The images.
        rows: The calibration set.
        settings: Percentile, and whether the head stays float.
        scheme: Number types.

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
    """The calibration set, batch by batch; ONNX Runtime asks for a subclass of its own."""

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
        # Somebody else's graph may take one image at a time.
        size = first.dim_value or _even_batch_size(len(rows))
        for batch in ordered_batches(dataset, rows, classifier.contract, batch_size=size):
            yield {"images": classifier.contract.normalize(batch.images)}


def _even_batch_size(images: int) -> int:
    """A batch size that leaves none over: histograms are made of batches of one shape."""
    return max(size for size in range(1, 33) if images % size == 0)


def _head_nodes(path: Path) -> list[str]:
    """The node that makes the logits."""
    graph = onnx.load(path).graph
    last = graph.output[0].name
    return [node.name for node in graph.node if last in node.output]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime advises its own steps on the root logger and prints; errors come through."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
