"""The stage: float32 to int8, on a calibration set, kept only where it pays."""

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from acclimate.compression.calibration import calibration_rows
from acclimate.compression.settings import Quantize
from acclimate.compression.verdict import Verdict, judge
from acclimate.context import Context
from acclimate.data.batches import in_order
from acclimate.data.dataset import Dataset, Rows
from acclimate.models.classifier import Classifier, StepRecord, plain
from acclimate.models.export import export, with_metadata
from acclimate.models.runtime import run_onnx

_DEFAULT = Quantize()
_HERE = Context()


@dataclass(frozen=True)
class Scheme:
    """One way to write 8-bit numbers.

    Attributes:
        name: For the report.
        activations: Their type.
        reduce_range: 7-bit weights: on processors without VNNI, products of 8-bit numbers
            overflow their 16-bit sums and are cut off.
    """

    name: str
    activations: QuantType
    reduce_range: bool


SCHEMES = (
    Scheme("U8S8", QuantType.QUInt8, False),
    Scheme("U8S8, 7-bit weights", QuantType.QUInt8, True),
    Scheme("S8S8", QuantType.QInt8, False),
)
"""Tried in order until one holds the budget; weights are S8, a scale for each channel."""


def quantize(
    classifier: Classifier,
    dataset: Dataset,
    settings: Quantize = _DEFAULT,
    *,
    context: Context = _HERE,
) -> Classifier:
    """Quantizes the exported graph, and keeps it only where it is smaller or faster and as good.

    Args:
        classifier: With a network or a float graph; it is exported where it is not yet.
        dataset: Train calibrates, val judges.
        settings: Calibration set and allowed loss.
        context: Seed, progress.

    Returns:
        An int8 classifier, or the float one with its graph and the reason in its card.

    Raises:
        DataError: The classifier does not know the data's classes.
    """
    dataset = dataset.with_classes(classifier.classes, classifier.name)
    if classifier.precision != "float32":
        reason = f"Not quantized: the model is {classifier.precision} already."
        context.progress.say(f"quantize: {reason}")
        return classifier.after(StepRecord("quantize", plain(settings), {}, (reason,)))
    exported = classifier
    if classifier.graph is None:
        exported = export(classifier, dataset, context=context)
    assert exported.graph is not None
    rows = calibration_rows(dataset, settings.calibration_images, context)
    tried: list[Verdict] = []
    for scheme in SCHEMES:
        context.progress.say(f"quantize: {scheme.name}, measuring {len(rows):,} images")
        graph = QUANTIZERS[settings.method](exported, dataset, rows, settings, scheme)
        small = replace(
            exported, network=None, graph=with_metadata(graph, exported), precision="int8"
        )
        verdict = judge(
            ("float32", f"int8 ({scheme.name})"),
            (exported, small),
            (run_onnx(exported, "cpu"), run_onnx(small, "cpu")),
            dataset,
            settings.max_accuracy_drop,
        )
        context.progress.say(f"quantize: {verdict.reason}")
        tried.append(verdict)
        if verdict.keep:
            step = StepRecord(
                "quantize", plain(settings), verdict.figures, tuple(v.reason for v in tried)
            )
            return exported.after(step, network=None, graph=small.graph, precision="int8")
    best = max(tried, key=lambda v: v.figures["val_accuracy"])
    step = StepRecord("quantize", plain(settings), best.figures, tuple(v.reason for v in tried))
    return exported.after(step, graph=exported.graph)


def static(
    classifier: Classifier, dataset: Dataset, rows: Rows, settings: Quantize, scheme: Scheme
) -> bytes:
    """Static quantization in QDQ form, through ONNX Runtime.

    Args:
        classifier: Exported, float32.
        dataset: The images.
        rows: The calibration set.
        settings: Percentile, and whether the head stays float.
        scheme: How numbers are written.

    Returns:
        The quantized graph's bytes.
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
            _Reader(classifier, dataset, rows),
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


class _Reader(CalibrationDataReader):  # type: ignore[misc]
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
        size = first.dim_value or 32
        for batch in in_order(dataset, rows, classifier.contract, batch_size=size):
            yield {"images": classifier.contract.normalize(batch.images)}


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


QUANTIZERS: dict[str, Callable[[Classifier, Dataset, Rows, Quantize, Scheme], bytes]] = {
    "static": static
}
"""(exported classifier, data, calibration rows, settings, scheme) to a graph's bytes."""
