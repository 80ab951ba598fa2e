"""Static int8 quantization in QDQ format by ONNX Runtime: integer types, ranges, float islands."""

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import onnx
from onnxruntime.quantization import (
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_static,
    save_tensors_data,
)

from acclimate.compression.activation_ranges import (
    Batch,
    Histogram,
    Range,
    least_squares,
    measure_histograms,
    measure_range,
    percentile,
    ranges,
)
from acclimate.compression.settings import Quantize
from acclimate.compression.weight_rounding import WeightRounding
from acclimate.data.dataset import Dataset, Rows
from acclimate.data.images.batches import ordered_batches
from acclimate.models.classifier import Classifier

_BATCH = 32
_WEIGHTED = ("Conv", "Gemm", "MatMul", "ConvTranspose")


@dataclass(frozen=True)
class Scheme:
    """Integer types of activations and weights.

    Attributes:
        name: Name in the report.
        short: Name in the names of candidates.
        activations: Type of the activations.
        weights: Type of the weights, with one scale per channel.
        reduce_range: Whether weights use 7 bits. On processors without VNNI, sums of 8-bit
            products overflow 16 bits and are clipped.
    """

    name: str
    short: str
    activations: QuantType
    weights: QuantType = QuantType.QInt8
    reduce_range: bool = False


U8S8 = Scheme("U8S8", "u8s8", QuantType.QUInt8)
U8S7 = Scheme("U8S8, 7-bit weights", "u8s7", QuantType.QUInt8, reduce_range=True)
U8U8 = Scheme("U8U8", "u8u8", QuantType.QUInt8, QuantType.QUInt8)
S8S8 = Scheme("S8S8", "s8s8", QuantType.QInt8)
SCHEMES = (U8S8, U8S7, S8S8)
"""In the order in which the quantize stage tries them."""


@dataclass(frozen=True)
class Calibration:
    """How the range of an activation follows from its values on the calibration images.

    Attributes:
        name: In the names of candidates.
        range_of: From a histogram; None for the whole range, which needs no histogram.
    """

    name: str
    range_of: Callable[[Histogram], Range] | None = None


MIN_MAX = Calibration("minmax")
CALIBRATIONS = (
    MIN_MAX,
    Calibration("p99.999", percentile(1e-5)),
    Calibration("p99.99", percentile(1e-4)),
    Calibration("mse", least_squares),
)


@dataclass(frozen=True)
class Quantized:
    """One int8 graph that a quantizer offers.

    Attributes:
        name: Name of the scheme, for the report.
        graph: Bytes of the ONNX file.
    """

    name: str
    graph: bytes


class StaticQuantizer:
    """Quantizes one graph in several ways; the images pass through it once for all of them.

    It is a context manager, since it keeps files in a temporary folder.

    Args:
        classifier: Exported, float32.
        dataset: The images.
        rows: The calibration set.
    """

    def __init__(self, classifier: Classifier, dataset: Dataset, rows: Rows) -> None:
        assert classifier.graph is not None
        self._classifier, self._dataset, self._rows = classifier, dataset, rows
        self._place = tempfile.TemporaryDirectory()
        self._folder = Path(self._place.name)
        start, self._graph = self._folder / "float.onnx", self._folder / "ready.onnx"
        start.write_bytes(classifier.graph)
        with _quiet():
            quant_pre_process(start, self._graph, skip_symbolic_shape=True)
        _name_nodes(self._graph)

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Deletes its files."""
        self._place.cleanup()

    @cached_property
    def _float(self) -> onnx.ModelProto:
        return onnx.load(self._graph)

    @cached_property
    def weighted_nodes(self) -> tuple[str, ...]:
        """The names of the nodes with weights, such as convolutions, in the order of the graph."""
        graph = self._float.graph
        weights = {tensor.name for tensor in graph.initializer}
        return tuple(
            node.name
            for node in graph.node
            if node.op_type in _WEIGHTED and weights.intersection(node.input)
        )

    @cached_property
    def head_nodes(self) -> tuple[str, ...]:
        """The names of the nodes that compute the logits."""
        graph = self._float.graph
        last = graph.output[0].name
        return tuple(node.name for node in graph.node if last in node.output)

    def quantize(
        self,
        scheme: Scheme,
        calibration: Calibration = MIN_MAX,
        *,
        keep_float: Collection[str] = (),
        only: Collection[str] = (),
    ) -> bytes:
        """Quantizes the graph.

        Args:
            scheme: Integer types.
            calibration: How ranges are chosen.
            keep_float: Names of nodes that stay in float32.
            only: Names of the nodes to quantize; all if empty.

        Returns:
            Bytes of the ONNX file.
        """
        done = self._folder / "int8.onnx"
        with _quiet():
            quantize_static(
                self._graph,
                done,
                quant_format=QuantFormat.QDQ,
                activation_type=scheme.activations,
                weight_type=scheme.weights,
                per_channel=True,
                reduce_range=scheme.reduce_range,
                nodes_to_exclude=list(keep_float),
                nodes_to_quantize=list(only) or None,
                calibration_cache_path=self._ranges(calibration),
            )
        return self._rounding.apply(done.read_bytes())

    @cached_property
    def _rounding(self) -> WeightRounding:
        return WeightRounding(self._graph, self._batches())

    def _ranges(self, calibration: Calibration) -> Path:
        """The file with the ranges of the activations, made when they are first needed."""
        path = self._folder / f"{calibration.name}.json"
        if not path.exists():
            with _quiet():
                if calibration.range_of is None:
                    found = measure_range(self._graph, self._batches())
                else:
                    found = ranges(self._histograms, calibration.range_of)
                save_tensors_data(found, path)
        return path

    @cached_property
    def _histograms(self) -> dict[str, Histogram]:
        return measure_histograms(self._graph, self._batches())

    def _batches(self) -> Iterator[Batch]:
        shape = self._float.graph.input[0].type.tensor_type.shape
        size = shape.dim[0].dim_value or _BATCH  # a graph from elsewhere may have a fixed one
        contract = self._classifier.contract
        for batch in ordered_batches(self._dataset, self._rows, contract, batch_size=size):
            if len(batch.images) == size or not shape.dim[0].dim_value:
                yield {"images": contract.normalize(batch.images)}


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
    with StaticQuantizer(classifier, dataset, rows) as quantizer:
        for scheme in SCHEMES:
            yield Quantized(scheme.name, _as_set(quantizer, settings, scheme))


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
    with StaticQuantizer(classifier, dataset, rows) as quantizer:
        return _as_set(quantizer, settings, scheme)


def _as_set(quantizer: StaticQuantizer, settings: Quantize, scheme: Scheme) -> bytes:
    calibration = MIN_MAX
    if settings.percentile:
        calibration = Calibration("percentile", percentile(settings.percentile))
    keep = quantizer.head_nodes if settings.keep_head_float else ()
    return quantizer.quantize(scheme, calibration, keep_float=keep)


def _name_nodes(path: Path) -> None:
    """Gives each node a name of its own: files of other makers may have none, or some twice."""
    model = onnx.load(path)
    taken: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type} {number}"
        taken.add(node.name)
    onnx.save(model, path)


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
