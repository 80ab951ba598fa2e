"""The stage: float32 to int8, on a calibration set, taught where it loses, kept where it pays."""

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
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
    quant_pre_process,
    quantize_static,
)

from acclimate.augmentation.policy import Policy
from acclimate.compression.calibration import calibration_rows
from acclimate.compression.recovery import taught
from acclimate.compression.settings import Quantize
from acclimate.compression.verdict import Verdict, judge
from acclimate.context import Context
from acclimate.data.dataset import Dataset, Rows
from acclimate.data.images.batches import in_order
from acclimate.errors import ModelFileError, count
from acclimate.models.classifier import Classifier, StepRecord, plain
from acclimate.models.onnx.export import export, with_metadata
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


@dataclass(frozen=True)
class _Tried:
    """One int8 model, what judging it gave, and what its card will say of how it was made."""

    model: Classifier
    verdict: Verdict
    step: StepRecord


def quantize(
    classifier: Classifier,
    dataset: Dataset,
    policy: Policy | None = None,
    settings: Quantize = _DEFAULT,
    *,
    context: Context = _HERE,
) -> Classifier:
    """Quantizes the exported graph, and keeps it only where it is smaller or faster and as good.

    Where every way to write the numbers loses too much, the best of them learns from the float
    model within its 8 bits, and is judged again.

    Args:
        classifier: With a network or a float graph; it is exported where it is not yet.
        dataset: Train calibrates and teaches, val judges.
        policy: Augmentation while recovering; the default one when None.
        settings: Calibration set, allowed loss, how long to recover.
        context: Seed, device, workspace, progress.

    Returns:
        An int8 classifier, or the float one with its graph and the reason in its card.

    Raises:
        DataError: The classifier does not know the data's classes.
    """
    dataset = dataset.with_classes(classifier.classes, classifier.name)
    if classifier.precision != "float32":
        reason = f"Not quantized: the model is {classifier.precision} already."
        context.progress.info(f"quantize: {reason}")
        return classifier.after(StepRecord("quantize", plain(settings), {}, (reason,)))
    exported = classifier
    if classifier.graph is None:
        exported = export(classifier, dataset, context=context)
    tried = _each_scheme(exported, dataset, settings, context)
    best = _best(tried)
    if settings.recover and best.verdict.loses_too_much:
        tried.append(_recovered(best, exported, dataset, policy, settings, context))
    notes = tuple(note for one in tried for note in (*one.step.notes, one.verdict.reason))
    last = tried[-1]
    if not last.verdict.keep:
        step = StepRecord("quantize", plain(settings), _best(tried).verdict.figures, notes)
        return exported.after(step, graph=exported.graph)
    figures = {**last.step.figures, **last.verdict.figures}
    return exported.after(
        replace(last.step, figures=figures, notes=notes),
        network=None,
        graph=last.model.graph,
        precision="int8",
        dataset=last.model.card.dataset,
    )


def _each_scheme(
    exported: Classifier, dataset: Dataset, settings: Quantize, context: Context
) -> list[_Tried]:
    """Int8 models, the last of them kept or none."""
    rows = calibration_rows(dataset, settings.calibration_images, context)
    tried: list[_Tried] = []
    for scheme in SCHEMES:
        context.progress.info(f"quantize: {scheme.name}, measuring {count(len(rows), 'image')}")
        graph = QUANTIZERS[settings.method](exported, dataset, rows, settings, scheme)
        small = replace(
            exported, network=None, graph=with_metadata(graph, exported), precision="int8"
        )
        verdict = _judged(f"int8 ({scheme.name})", small, exported, dataset, settings, context)
        tried.append(_Tried(small, verdict, StepRecord("quantize", plain(settings))))
        if verdict.keep:
            break
    return tried


def _best(tried: Sequence[_Tried]) -> _Tried:
    return max(tried, key=lambda one: one.verdict.figures["val_accuracy"])


def _recovered(
    best: _Tried,
    exported: Classifier,
    dataset: Dataset,
    policy: Policy | None,
    settings: Quantize,
    context: Context,
) -> _Tried:
    """The int8 model after it was taught; where it cannot be, as it was, and why."""
    context.progress.info("quantize: the float model teaches the int8 one")
    try:
        made = taught(best.model, exported, dataset, policy, settings, context=context)
    except ModelFileError as error:
        reason = f"Not taught: {error.message}"
        context.progress.info(f"quantize: {reason}")
        return replace(best, verdict=replace(best.verdict, reason=reason))
    verdict = _judged("int8, taught", made, exported, dataset, settings, context)
    return _Tried(made, verdict, made.card.steps[-1])


def _judged(
    name: str,
    small: Classifier,
    exported: Classifier,
    dataset: Dataset,
    settings: Quantize,
    context: Context,
) -> Verdict:
    verdict = judge(
        ("float32", name),
        (exported, small),
        (run_onnx(exported, "cpu"), run_onnx(small, "cpu")),
        dataset,
        settings.max_accuracy_drop,
    )
    context.progress.info(f"quantize: {verdict.reason}")
    return verdict


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
        size = first.dim_value or _even(len(rows))
        for batch in in_order(dataset, rows, classifier.contract, batch_size=size):
            yield {"images": classifier.contract.normalize(batch.images)}


def _even(images: int) -> int:
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


QUANTIZERS: dict[str, Callable[[Classifier, Dataset, Rows, Quantize, Scheme], bytes]] = {
    "static": static
}
"""(exported classifier, data, calibration rows, settings, scheme) to a graph's bytes."""
