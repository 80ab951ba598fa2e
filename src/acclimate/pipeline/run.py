"""The main job: every stage of a recipe, each in a folder named by all that it depends on.

A stage whose folder stands is not run again. A stage that was killed left a `.part` folder under
the very same key, with its checkpoints, and goes on from there.
"""

import os
import shutil
import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from acclimate.context import Context, process_count
from acclimate.errors import DataError, OutputError, RecipeError, count
from acclimate.files import (
    atomic_folder,
    digest_json,
    free_bytes,
    read_json,
    replace_folder,
    working_alone,
    write_atomic,
    write_json,
    writing_errors,
)
from acclimate.pipeline.artifacts import THINGS, Slot, machine
from acclimate.pipeline.stages import STAGES, Stage, find
from acclimate.pipeline.steps import Step, chosen
from acclimate.recipe import HEADER, Recipe
from acclimate.settings import Settings

FREE_BYTES = 500_000_000
"""What a run of a small model needs at least: checkpoints, exported graphs, the report."""


@dataclass(frozen=True)
class RunResult:
    """What the main job leaves.

    Attributes:
        folder: Of the run.
        model: Folder of the finished model.
        report: The page.
        evaluations: Label to Evaluation, in order.
        comparisons: Name to Comparison.
        registered: "name/number" in the store, or None.
        ran: Steps that were run now; the others were found done.
    """

    folder: Path
    model: Path
    report: Path
    evaluations: Mapping[str, Any]
    comparisons: Mapping[str, Any]
    registered: str | None
    ran: tuple[str, ...]


@dataclass
class _Job:
    recipe: Recipe
    folder: Path
    context: Context
    force: bool
    slots: dict[str, Slot] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    done: list[Path] = field(default_factory=list)


def run(
    recipe: Recipe,
    out: Path = Path("runs"),
    *,
    context: Context | None = None,
    until: str | None = None,
    force: bool = False,
) -> RunResult | None:
    """Runs a recipe; what is done already is found and not done again.

    Args:
        recipe: What to do. `data.path` must be set.
        out: The run's folder is `out/<recipe.name>`.
        context: Device and progress; its seed and `cache_gb` are the recipe's.
        until: Stop after this step.
        force: Do every step again, even where its result stands.

    Returns:
        What the run left; None when it was stopped by `until`.

    Raises:
        RecipeError: The recipe has no data.
        OutputError: The place is full, read-only, or used by another run.
    """
    steps = chosen(recipe, until)
    folder = out / recipe.name
    here = replace(
        context or Context(),
        seed=recipe.seed,
        cache_gb=recipe.data.cache_gb,
        registry=recipe.registry,
    )
    if process_count() > 1:
        raise RecipeError(
            "the whole job runs in one process.",
            hint="Under torchrun, use `acclimate fine-tune` or `acclimate distill`.",
        )
    with _locked(folder):
        job = _Job(recipe, folder, here, force)
        _read_inputs(job)
        write_atomic(folder / "recipe.yaml", recipe.to_yaml())
        for step in steps:
            _do(job, step)
            if step.name == "clean":
                _check_judged(job)
                _check_kept(job)
        return _finish(job) if until is None else None


def check(recipe: Recipe, context: Context | None = None) -> None:
    """Everything that a run looks at before its first stage; writes nothing.

    Args:
        recipe: What would be done.
        context: Device and progress.

    Raises:
        AcclimateError: What the run would be refused for.
    """
    chosen(recipe, None)
    _read_inputs(_Job(recipe, Path(), context or Context(), force=False))


@contextmanager
def _locked(folder: Path) -> Any:  # noqa: ANN401 - a generator of nothing
    """One run at a time in a folder, on a disk that has room."""
    if folder.is_dir() and any(folder.iterdir()) and not _is_run(folder):
        raise OutputError(
            "something stands here that is no run of acclimate's.",
            where=folder,
            hint="Choose another place with --out, or another --name.",
        )
    with writing_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    free = free_bytes(folder)
    if free < FREE_BYTES:
        raise OutputError(
            f"only {free / 1e6:,.0f} MB are free and a run needs {FREE_BYTES / 1e6:,.0f}.",
            where=folder,
            hint="Free some space, or choose another place with --out.",
        )
    hint = "Wait for it, or give this one another --name."
    with working_alone(folder, busy="another run is working in this folder.", hint=hint):
        yield


def _is_run(folder: Path) -> bool:
    """Whether a run of ours worked here: its lock, or a recipe that we wrote."""
    if (folder / ".lock").exists():
        return True
    recipe = folder / "recipe.yaml"
    if not recipe.is_file():
        return False
    with recipe.open("rb") as stream:
        return stream.read(len(HEADER)) == HEADER.encode()


def _read_inputs(job: _Job) -> None:
    """Fills the slots that no stage makes: the listing of the images, and the pretrained model."""
    find("acclimate.models.device:choose_device")(job.context.device)  # before hours of cleaning
    read = find("acclimate.data.sources.read:read")
    as_classifier = find("acclimate.registry.resolve:as_classifier")
    recipe = job.recipe
    listing = read(recipe.data.path, recipe.data)
    for note in listing.notes:
        job.context.progress.info(f"read: {note}")
    model = as_classifier(recipe.model.name, settings=recipe.model, registry=recipe.registry)
    job.slots["listing"] = Slot(listing.digest, lambda: listing)
    job.slots["pretrained"] = Slot(model.digest, lambda: model)


def _check_judged(job: _Job) -> None:
    """Better said now than after hours of training: there must be images that judge."""
    split = job.recipe.evaluate.split
    if not len(job.slots["dataset"].load().rows(split)):
        raise DataError(
            f"there are no images in the {split} split, which judges.",
            where=job.recipe.data.path,
            hint="Add some, or set clean.test above 0, or evaluate.split to val.",
        )


def _check_kept(job: _Job) -> None:
    """Distilling and pruning see the images at hand alone: they would unlearn all other classes."""
    recipe = job.recipe
    if recipe.fine_tune is None or not recipe.fine_tune.keep_classes:
        return
    class_increment_of = find("acclimate.fine_tuning.class_incremental:class_increment_of")
    model, dataset = job.slots["pretrained"].load(), job.slots["dataset"].load()
    absent = class_increment_of(model, dataset, recipe.fine_tune).absent
    later = [name for name in ("distill", "prune") if getattr(recipe, name) is not None]
    if absent and later:
        raise RecipeError(
            f"data has too few training images of {count(len(absent), 'class', 'classes')} that "
            f"fine_tune.keep_classes keeps ({absent[0]!r} is one), and {later[0]} would unlearn "
            "them.",
            where=later[0],
            hint=f"Add images of them, or give {' '.join(f'--set {name}=null' for name in later)}.",
        )


def _do(job: _Job, step: Step) -> None:
    """Runs one step, or finds it done."""
    stage = STAGES[step.stage]
    settings = getattr(job.recipe, stage.section)
    inputs = [job.slots[name] for name in step.reads]
    key = _key(job, step, stage, settings, inputs)
    folder = job.folder / f"{step.name}-{key[:8]}"
    if not job.force and (folder / "stage.json").is_file():
        job.context.progress.info(f"{step.name}: done before, kept")
    else:
        _run_stage(job, step, settings, inputs, folder, key)
        job.ran.append(step.name)
    record = read_json(folder / "stage.json")
    assert isinstance(record, dict)
    slot = Slot(record["digest"], lambda: THINGS[stage.writes].load(folder), folder)
    for name in (step.writes, step.also):
        if name is not None:
            job.slots[name] = slot
    job.done.append(folder)


def _key(job: _Job, step: Step, stage: Stage, settings: Settings, inputs: list[Slot]) -> str:
    parts: list[Any] = [step.name, stage.version, settings.model_dump(mode="json")]
    parts += [[slot.digest for slot in inputs], job.recipe.seed]
    if getattr(settings, "label_weights", False):
        # Scores change no digest, so that nothing else is trained anew.
        parts.append(job.slots["dataset"].load().scores_digest)
    return digest_json(parts)


def _run_stage(
    job: _Job,
    step: Step,
    settings: Settings,
    inputs: list[Slot],
    folder: Path,
    key: str,
) -> None:
    stage = STAGES[step.stage]
    part = folder.with_name(f".{folder.name}.part")
    scratch = part / "scratch"
    with writing_errors(part):
        if job.force:
            shutil.rmtree(part, ignore_errors=True)
        scratch.mkdir(parents=True, exist_ok=True)
    began, clock = datetime.now(UTC), time.monotonic()
    job.context.progress.info(f"── {step.name}")
    context = replace(job.context, workspace=scratch)
    extra = {"name": step.label} if step.label else {}
    things = [slot.load() for slot in inputs]
    result = stage.function(*things, settings, context=context, **extra)
    with writing_errors(part):
        THINGS[stage.writes].save(result, part)
    write_json(
        part / "stage.json",
        {
            "stage": stage.name,
            "version": stage.version,
            "key": key,
            "digest": result.digest,
            "reads": {n: s.digest for n, s in zip(step.reads, inputs, strict=True)},
            "settings": settings.model_dump(mode="json"),
            "seed": job.recipe.seed,
            "began": began.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - clock, 2),
            "machine": machine(job.context.device),
        },
    )
    shutil.rmtree(scratch)
    replace_folder(part, folder)


def _finish(job: _Job) -> RunResult:
    """Puts the finished model at its place, registers it, and writes the report."""
    model = job.folder / "model"
    classifier = job.slots["classifier"].load()
    with atomic_folder(model) as part:
        classifier.write_into(part)
    job.slots["dataset"].load().save(job.folder / "dataset.parquet")
    evaluations = {
        label: job.slots[name].load()
        for label, name in (
            ("probe", "start_evaluation"),
            ("fine-tuned", "tuned_evaluation"),
            ("final", "evaluation"),
        )
        if name in job.slots
    }  # fmt: skip
    comparisons: dict[str, Any] = {
        n: job.slots[n].load() for n in ("gain", "cost") if n in job.slots
    }
    registered = _register(job, classifier, evaluations["final"])
    report = job.folder / "report.html"
    page = find("acclimate.reporting.report:report")(
        recipe=job.recipe.to_yaml(),
        dataset=job.slots["dataset"].load(),
        classifier=classifier,
        evaluations=evaluations,
        comparisons=comparisons,
        stages=[read_json(folder / "stage.json") for folder in job.done],
        registered=registered,
        policy=job.slots["policy"].load(),
    )
    write_atomic(report, page)
    return RunResult(
        job.folder, model, report, evaluations, comparisons, registered, tuple(job.ran)
    )


def _register(job: _Job, classifier: Any, evaluation: Any) -> str | None:  # noqa: ANN401
    settings = job.recipe.registry
    if settings is None:
        return None
    registry = find("acclimate.registry.versions:Registry")(settings)
    home = evaluation.metrics["home"]["accuracy"]
    version = registry.publish(
        settings.name or job.recipe.name,
        classifier,
        facts={
            "accuracy": f"{home.value:.4f}",
            "accuracy_low": f"{home.low:.4f}",
            "accuracy_high": f"{home.high:.4f}",
            "dataset": evaluation.dataset_digest,
            "precision": classifier.precision,
            "bytes": str(evaluation.size_bytes),
            "source": classifier.card.source,
        },
        documents={
            "recipe": job.recipe.model_dump(mode="json"),
            "lineage": [read_json(folder / "stage.json") for folder in job.done],
        },
    )
    job.context.progress.info(f"registered and signed: {version.name}/{version.number}")
    if settings.tracking_uri:
        track = find("acclimate.registry.tracking:track")
        track(settings.tracking_uri, job.recipe.name, classifier, job.context.progress)
    return f"{version.name}/{version.number}"
