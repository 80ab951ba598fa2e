"""Candidates that are trained: pruned networks, smaller students, int8 with recovered accuracy."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from acclimate.augmentation.policy import choose_policy
from acclimate.compression.candidates import Candidate
from acclimate.compression.prune import pruned_and_recovered
from acclimate.compression.recovery import recover
from acclimate.compression.search_job import SearchJob
from acclimate.compression.settings import Prune, Quantize
from acclimate.distillation.distill import distill
from acclimate.distillation.settings import Distill
from acclimate.errors import ModelFileError
from acclimate.models.classifier import Classifier
from acclimate.models.model_names import PACKAGED
from acclimate.models.onnx.export import to_onnx
from acclimate.models.onnx.macs import count_macs
from acclimate.models.pretrained import pretrained
from acclimate.models.settings import Model

_SHARE = 0.25
"""Of the time limit, what one training may take."""


def pruned(job: SearchJob, ratio: float) -> Candidate | None:
    """The original without some of its channels, trained to recover.

    Args:
        job: The search.
        ratio: Fraction of the channels to remove.

    Returns:
        The candidate, timed; None if the network cannot be pruned.
    """
    settings = Prune(ratio=ratio, class_statistics=False, **_length(job))

    def build(job: SearchJob) -> Classifier:
        return pruned_and_recovered(
            job.original, job.dataset, job.policy, settings, context=job.context
        )

    recipe = {"prune": {"ratio": ratio, **_training(job)}}
    return _trained(job, f"pruned{ratio:g}", recipe, build)


def student(job: SearchJob, name: str) -> Candidate | None:
    """A smaller network that learns from the original.

    Args:
        job: The search.
        name: Of the student.

    Returns:
        The candidate, timed; None if the student cannot be trained.
    """
    settings = Distill(student=name, class_statistics=False, **_length(job))

    def build(job: SearchJob) -> Classifier:
        return distill(job.original, job.dataset, job.policy, settings, context=job.context)

    recipe = {"distill": {"student": name, **_training(job)}}
    return _trained(job, f"student-{name}", recipe, build)


def smaller_networks(job: SearchJob) -> tuple[str, ...]:
    """The students to try: those of the settings, or packaged ones with fewer multiply-adds."""
    if job.settings.students != "auto":
        return job.settings.students
    assert job.original.graph is not None
    own, found = count_macs(job.original.graph), []
    for name in PACKAGED:
        if job.original.name.removeprefix("tf_").replace("_", "-") == name:
            continue
        network = pretrained(Model(name=name, image_size=job.original.contract.image_size))
        if count_macs(to_onnx(network)) < 0.9 * own:
            found.append(name)
    return tuple(found)


def recovered(job: SearchJob, candidate: Candidate) -> Candidate | None:
    """An int8 candidate after quantization-aware training with the original as teacher.

    Args:
        job: The search.
        candidate: An int8 form of the original.

    Returns:
        The candidate, timed; None if it cannot be trained.
    """
    settings = Quantize(**_length(job))

    def build(job: SearchJob) -> Classifier:
        small = job.folder.load(candidate)
        return recover(small, job.original, job.dataset, job.policy, settings, context=job.context)

    recipe = {**candidate.recipe, "recover": _training(job)}
    return _trained(job, f"{candidate.name}-qat", recipe, build)


def _trained(
    job: SearchJob,
    name: str,
    recipe: Mapping[str, Any],
    build: Callable[[SearchJob], Classifier],
) -> Candidate | None:
    """Trains a candidate, exports and times it; with the reason in the log if that cannot be."""
    checkpoints = replace(job.context, workspace=job.folder.work(name))

    def trained() -> Classifier:
        made = build(replace(job, context=checkpoints))
        return made if made.graph is not None else replace(made, graph=to_onnx(made))

    try:
        candidate, model = job.folder.make(name, recipe, trained)
    except ModelFileError as error:
        job.info(f"{name}: left out ({error.message})")
        return None
    looks = 1 + sum(bool(row.get("epoch")) for row in model.card.steps[-1].curve)
    (timed,) = job.timed([job.folder.update(candidate, looks=looks)])
    return timed


def _training(job: SearchJob) -> dict[str, Any]:
    """What a training depends on beside the images, as JSON."""
    return {**_length(job), "policy": (job.policy or choose_policy()).digest}


def time_for_training(job: SearchJob) -> bool:
    """Whether a training fits into what is left of the time limit."""
    return job.seconds_left() >= 60 * (_length(job).get("max_minutes") or 0)


def _length(job: SearchJob) -> dict[str, Any]:
    """How long a training may take: the epochs of the settings, or a share of the time limit."""
    minutes = job.settings.max_minutes
    if job.settings.epochs == "auto" and minutes is not None:
        return {"max_minutes": minutes * _SHARE}
    return {"epochs": job.settings.epochs}
