"""The compress stage: searches for the smallest or fastest model inside an accuracy budget.

First, int8 candidates are ranked without labels by how far their outputs are from the float
model's. The best few, and candidates that are trained (pruned, distilled, recovered), are then
compared with the float model on all val images. The budget is held by an upper confidence bound of
the paired drop, which is corrected for the number of comparisons. Test images are not read.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from acclimate.augmentation.policy import Policy
from acclimate.compression.accuracy_budget import certifiable_drop, images_needed
from acclimate.compression.candidates import ORIGINAL, Candidate, CandidateFolder
from acclimate.compression.choice import Choice, choose
from acclimate.compression.int8_search import Form, Int8Search
from acclimate.compression.pareto import write_results
from acclimate.compression.search_job import SearchJob
from acclimate.compression.settings import Compress
from acclimate.compression.trained_candidates import (
    pruned,
    recovered,
    smaller_networks,
    student,
    time_for_training,
)
from acclimate.context import Context
from acclimate.cpu import has_exact_int8
from acclimate.data.dataset import Dataset, Rows
from acclimate.errors import BudgetMissed, DataError, ModelFileError, count
from acclimate.evaluation.evaluate import roles_of_images
from acclimate.files import working_alone
from acclimate.models.classifier import Classifier, StepRecord, plain
from acclimate.models.onnx.export import export
from acclimate.models.onnx.int8_check import FIGURE, int8_difference
from acclimate.models.used_images import TRAIN

_DEFAULT = Compress()
_HERE = Context()
_INT8_COMPARISONS = 3
"""Int8 forms of the original that are compared on val at most."""


def compress(
    classifier: Classifier,
    dataset: Dataset,
    policy: Policy | None = None,
    settings: Compress = _DEFAULT,
    *,
    context: Context = _HERE,
) -> Classifier:
    """Searches for the smallest or fastest form of a model inside an accuracy budget.

    Args:
        classifier: Float, with a network or a graph.
        dataset: Cleaned and split. Train images calibrate and train; val images decide.
        policy: Augmentation in trainings; the default policy if None.
        settings: Budget, limits, and what may be tried.
        context: Seed, device, progress. Its workspace keeps all candidates: the same call resumes
            from them. Without a workspace they are deleted.

    Returns:
        The best model. The last step of its card says by how much its accuracy can have dropped,
        and whether that is within the budget; see `check_budget`.

    Raises:
        DataError: There is no val image that the model was not trained on.
        ModelFileError: The model is int8 already, or cannot be exported.
        OutputError: The workspace holds candidates of another search, or another process uses it.
    """
    if classifier.precision != "float32":
        raise ModelFileError(
            f"the model is {classifier.precision} already.",
            where=classifier.name,
            hint="Give the float model that it was made from.",
        )
    known = dataset.digest
    dataset = dataset.with_classes(classifier.classes, classifier.name)
    rows = _unused_val_rows(classifier, dataset, known)
    with _workspace(context) as folder:
        candidates = CandidateFolder(
            folder, {"model": classifier.digest, "data": known, "seed": context.seed}
        )
        _, original = candidates.make(ORIGINAL, {}, lambda: _exported(classifier, dataset, context))
        portable = not has_exact_int8() if settings.portable == "auto" else settings.portable
        job = SearchJob(original, dataset, policy, settings, context, candidates, rows, portable)
        if settings.pick is None:
            choice = choose(_search(job), job)
        else:
            choice = choose([job.compared(candidates.pick(settings.pick))], job, picked=True)
        write_results(folder, candidates.all(), choice, job)
        job.info(choice.sentence)
        return _result(job, choice)


def check_budget(classifier: Classifier, settings: Compress) -> None:
    """Raises an error if the model is not known to be within the budget.

    Args:
        classifier: As `compress` returns it.
        settings: Say whether an estimate is enough.

    Raises:
        BudgetMissed: A limit is not met, or val cannot show that the drop is within the budget.
    """
    step = classifier.card.steps[-1]
    met, shown = step.figures["limits_met"], step.figures["within_budget"]
    if not met or not (shown or settings.accept_estimate):
        raise BudgetMissed(step.notes[0], hint=None if met else "Allow more, or try more.")


def _exported(classifier: Classifier, dataset: Dataset, context: Context) -> Classifier:
    if classifier.graph is not None:
        return classifier
    return export(classifier, dataset, context=context)


def _unused_val_rows(classifier: Classifier, dataset: Dataset, known: str) -> Rows:
    rows = dataset.rows("val")
    rows = np.asarray(rows[roles_of_images(classifier, dataset, rows, known=known) != TRAIN])
    if not len(rows):
        raise DataError(
            "there is no val image to hold the accuracy budget on.",
            where=dataset.shown_root,
            hint="Add some, or set clean.val above 0.",
        )
    return rows


@contextmanager
def _workspace(context: Context) -> Iterator[Path]:
    """The folder of the candidates, for one process at a time."""
    folder = context.workspace or Path(tempfile.mkdtemp())
    try:
        hint = "Wait for it, or choose another place with --out."
        with working_alone(folder, busy="another search is working in this folder.", hint=hint):
            yield folder
    finally:
        if context.workspace is None:
            shutil.rmtree(folder, ignore_errors=True)


def _search(job: SearchJob) -> list[Candidate]:
    """Makes candidates in the order of their expected gain, and compares the promising ones."""
    _announce(job)
    settings = job.settings
    (original,) = job.timed([job.baseline])
    found: list[Candidate] = []
    form: Form | None = None
    if "quantize" in settings.allow:
        forms = Int8Search(job, original, job.original).all_forms()
        found += [job.compared(one) for one in _worth_comparing([c for c, _ in forms])]
        form = forms[0][1] if forms else None
        if not forms:
            job.info("int8 is not faster than float32 on this machine")
        elif not any(_within(job, one) for one in found) and time_for_training(job):
            # Training recovers most errors, so that no layer has to stay in float32.
            whole = [candidate for candidate, tried in forms if not tried.float_layers]
            again = recovered(job, whole[0]) if whole else None
            found += [job.compared(again)] if again else []
    for candidate in _trained_floats(job):
        found += [job.compared(candidate)]
        if form is not None and _promising(job, found[-1]):
            model = job.folder.load(candidate)
            # The layers of another network have other names, or the same by chance.
            floats = form.float_layers if "prune" in candidate.recipe else ()
            small = Int8Search(job, candidate, model).one_form(replace(form, float_layers=floats))
            found.append(job.compared(small))
        if len(found) >= settings.max_comparisons:
            job.info(f"{count(len(found), 'candidate')} compared: no more are tried")
            break
    return found


def _announce(job: SearchJob) -> None:
    """Says what the val images can show before any work is done."""
    settings, images = job.settings, len(job.val_rows)
    shown = certifiable_drop(images, settings.confidence, settings.max_comparisons)
    job.info(
        f"val has {count(images, 'image')}, which can rule out a drop of {shown:.2g} points or "
        f"more (if 1 % of predictions change, among {settings.max_comparisons} candidates)"
    )
    if shown > settings.max_accuracy_drop > 0:
        needed = images_needed(
            settings.max_accuracy_drop, settings.confidence, settings.max_comparisons
        )
        job.info(
            f"the budget of {settings.max_accuracy_drop:g} points needs about {needed:,} val "
            "images; with fewer, the best candidate is an estimate"
        )
    if job.portable:
        job.info("only int8 that all processors compute alike (7-bit or unsigned weights)")


def _worth_comparing(ranked: Sequence[Candidate]) -> list[Candidate]:
    """The int8 forms that are compared on val: those that diverge least, and the fastest."""
    chosen = list(ranked[: _INT8_COMPARISONS - 1])
    # Candidates that change many more predictions than the best one are not looked at.
    near = [one for one in ranked if _flips(one) <= 2 * _flips(ranked[0]) + 0.01]
    chosen += sorted(near, key=lambda one: -(one.speedup or 0))[:1]
    return list({one.name: one for one in chosen}.values())


def _flips(candidate: Candidate) -> float:
    assert candidate.divergence is not None
    return candidate.divergence.flips


def _within(job: SearchJob, candidate: Candidate) -> bool:
    """Whether the estimated drop is within the budget."""
    assert candidate.drop is not None
    return candidate.drop.estimate <= job.settings.max_accuracy_drop


def _promising(job: SearchJob, candidate: Candidate) -> bool:
    """Whether a float candidate is worth quantizing: fast enough, and not far from the budget."""
    assert candidate.drop is not None
    near = candidate.drop.estimate <= 2 * job.settings.max_accuracy_drop + 1
    return near and (candidate.speedup or 0) > 1


def _trained_floats(job: SearchJob) -> Iterator[Candidate]:
    """Pruned networks and students, while there is time; each is made when it is asked for."""
    settings = job.settings
    if job.original.network is None:
        return
    if "prune" in settings.allow:
        for ratio in settings.prune_ratios:
            if not time_for_training(job):
                job.info("no time is left for another training")
                return
            found = pruned(job, ratio)
            if found is None:
                break
            yield found
    if "distill" in settings.allow:
        for name in smaller_networks(job):
            if not time_for_training(job):
                job.info("no time is left for another training")
                return
            found = student(job, name)
            if found is not None:
                yield found


def _result(job: SearchJob, choice: Choice) -> Classifier:
    """The chosen model with the entry for its card."""
    model = job.original if choice.candidate is None else job.folder.load(choice.candidate)
    figures = choice.figures(job.accuracy)
    if model.precision == "int8":
        figures[FIGURE] = int8_difference(model)
    step = StepRecord("compress", plain(job.settings), figures, (choice.sentence,))
    # The images that chose among the candidates count as used, like those that chose epochs.
    return model.after(step, graph=model.graph, trained_on=job.dataset, splits=())
