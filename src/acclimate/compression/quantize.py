"""The stage: float32 to int8, with recovery where accuracy is lost, kept if it is worth it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from acclimate.augmentation.policy import Policy
from acclimate.compression.calibration import calibration_rows
from acclimate.compression.recovery import taught
from acclimate.compression.settings import Quantize
from acclimate.compression.static_int8 import Quantized, static
from acclimate.compression.verdict import Verdict, judge
from acclimate.context import Context
from acclimate.data.dataset import Dataset, Rows
from acclimate.errors import ModelFileError, count
from acclimate.models.classifier import Classifier, StepRecord, plain
from acclimate.models.onnx.export import export, with_metadata
from acclimate.models.runtime import run_onnx

_DEFAULT = Quantize()
_HERE = Context()


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
    tried = _candidates(exported, dataset, settings, context)
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


def _candidates(
    exported: Classifier, dataset: Dataset, settings: Quantize, context: Context
) -> list[_Tried]:
    """Int8 models, the last of them kept or none."""
    rows = calibration_rows(dataset, settings.calibration_images, context)
    tried: list[_Tried] = []
    context.progress.info(f"quantize: calibrating on {count(len(rows), 'image')}")
    for found in QUANTIZERS[settings.method](exported, dataset, rows, settings):
        graph = with_metadata(found.graph, exported)
        small = replace(exported, network=None, graph=graph, precision="int8")
        verdict = _judged(f"int8 ({found.name})", small, exported, dataset, settings, context)
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


QUANTIZERS: dict[str, Callable[[Classifier, Dataset, Rows, Quantize], Iterator[Quantized]]] = {
    "static": static
}
"""(exported classifier, data, calibration rows, settings) to int8 graphs, one at a time."""
