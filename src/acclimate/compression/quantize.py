"""The quantize stage: float32 to int8, with quantization-aware training if accuracy drops."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from acclimate.augmentation.policy import Policy
from acclimate.compression.acceptance import Acceptance, assess_compression
from acclimate.compression.calibration import calibration_rows
from acclimate.compression.recovery import recover
from acclimate.compression.settings import Quantize
from acclimate.compression.static_int8 import Quantized, static
from acclimate.context import Context
from acclimate.data.dataset import Dataset, Rows
from acclimate.errors import ModelFileError, count
from acclimate.models.classifier import Classifier, StepRecord, plain
from acclimate.models.onnx.export import export, with_metadata
from acclimate.models.onnx.int8_check import FIGURE, int8_difference
from acclimate.models.runtime import run_onnx

_DEFAULT = Quantize()
_HERE = Context()


@dataclass(frozen=True)
class _Candidate:
    """An int8 model, the comparison with the float32 model, and its entry for the card."""

    model: Classifier
    acceptance: Acceptance
    step: StepRecord


def quantize(
    classifier: Classifier,
    dataset: Dataset,
    policy: Policy | None = None,
    settings: Quantize = _DEFAULT,
    *,
    context: Context = _HERE,
) -> Classifier:
    """Quantizes the ONNX graph, and keeps the result only if it is smaller or faster and accurate.

    If every scheme loses too much accuracy, the best one recovers by quantization-aware training
    with the float model as teacher, and is compared again.

    Args:
        classifier: With a network or a float graph; it is exported if it has no graph.
        dataset: The train split is used for calibration and recovery, the val split to compare.
        policy: Augmentation during recovery; the default policy if None.
        settings: Calibration set, allowed drop and length of the recovery.
        context: Seed, device, workspace, progress.

    Returns:
        An int8 classifier, or the float classifier with its graph and the reason on its card.

    Raises:
        DataError: The classifier lacks classes of the data.
    """
    dataset = dataset.with_classes(classifier.classes, classifier.name)
    if classifier.precision != "float32":
        reason = f"Not quantized: the model is already {classifier.precision}."
        context.progress.info(f"quantize: {reason}")
        return classifier.after(StepRecord("quantize", plain(settings), {}, (reason,)))
    exported = classifier
    if classifier.graph is None:
        exported = export(classifier, dataset, context=context)
    candidates = _candidates(exported, dataset, settings, context)
    best = _most_accurate(candidates)
    if settings.recover and best.acceptance.drop_exceeds_limit:
        candidates.append(_recover(best, exported, dataset, policy, settings, context))
    notes = tuple(note for one in candidates for note in (*one.step.notes, one.acceptance.reason))
    last = candidates[-1]
    if not last.acceptance.keep:
        step = StepRecord(
            "quantize", plain(settings), _most_accurate(candidates).acceptance.figures, notes
        )
        return exported.after(step, graph=exported.graph)
    figures = {**last.step.figures, **last.acceptance.figures}
    figures[FIGURE] = int8_difference(last.model)
    return exported.after(
        replace(last.step, figures=figures, notes=notes),
        network=None,
        graph=last.model.graph,
        precision="int8",
        trained_on=dataset if last.model.card.dataset == dataset.digest else None,
    )


def _candidates(
    exported: Classifier, dataset: Dataset, settings: Quantize, context: Context
) -> list[_Candidate]:
    """Int8 models up to the first that is kept; all of them if none is."""
    rows = calibration_rows(dataset, settings.calibration_images, context)
    candidates: list[_Candidate] = []
    context.progress.info(f"quantize: calibrating on {count(len(rows), 'image')}")
    for found in QUANTIZERS[settings.method](exported, dataset, rows, settings):
        graph = with_metadata(found.graph, exported)
        small = replace(exported, network=None, graph=graph, precision="int8")
        acceptance = _assess(f"int8 ({found.name})", small, exported, dataset, settings, context)
        candidates.append(_Candidate(small, acceptance, StepRecord("quantize", plain(settings))))
        if acceptance.keep:
            break
    return candidates


def _most_accurate(candidates: Sequence[_Candidate]) -> _Candidate:
    return max(candidates, key=lambda one: one.acceptance.figures["val_accuracy"])


def _recover(
    best: _Candidate,
    exported: Classifier,
    dataset: Dataset,
    policy: Policy | None,
    settings: Quantize,
    context: Context,
) -> _Candidate:
    """The int8 model after quantization-aware training, or unchanged with the reason."""
    context.progress.info("quantize: recovering accuracy by quantization-aware training")
    try:
        made = recover(best.model, exported, dataset, policy, settings, context=context)
    except ModelFileError as error:
        reason = f"Not recovered: {error.message}"
        context.progress.info(f"quantize: {reason}")
        return replace(best, acceptance=replace(best.acceptance, reason=reason))
    acceptance = _assess("int8 (recovered)", made, exported, dataset, settings, context)
    return _Candidate(made, acceptance, made.card.steps[-1])


def _assess(
    name: str,
    small: Classifier,
    exported: Classifier,
    dataset: Dataset,
    settings: Quantize,
    context: Context,
) -> Acceptance:
    acceptance = assess_compression(
        ("float32", name),
        (exported, small),
        (run_onnx(exported, "cpu"), run_onnx(small, "cpu")),
        dataset,
        settings.max_accuracy_drop,
    )
    context.progress.info(f"quantize: {acceptance.reason}")
    return acceptance


QUANTIZERS: dict[str, Callable[[Classifier, Dataset, Rows, Quantize], Iterator[Quantized]]] = {
    "static": static
}
"""(exported classifier, data, calibration rows, settings) to an iterator of int8 graphs."""
