"""The main job: every step of a recipe, each in a folder whose name is a key of its inputs.

A step whose folder exists is not run again. A step that was killed left a `.part` folder with its
checkpoints under the same key, and resumes from there.
"""

import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acclimate.context import Context, process_count
from acclimate.errors import OutputError, RecipeError
from acclimate.files import (
    claim,
    digest_json,
    free_bytes,
    read_json,
    replace_folder,
    working_alone,
    write_atomic,
    write_json,
    writing_errors,
)
from acclimate.pipeline.artifacts import ARTIFACTS, Slot
from acclimate.pipeline.finish import RunResult, finish
from acclimate.pipeline.job import CANDIDATES, RunJob
from acclimate.pipeline.machine import machine
from acclimate.pipeline.stages import STAGES, Stage
from acclimate.pipeline.steps import Step, chosen
from acclimate.recipe import HEADER, Recipe
from acclimate.settings import Settings

if TYPE_CHECKING:
    from acclimate.pipeline.forecast import Forecast

FREE_BYTES = 500_000_000
"""What a run of a small model needs at least: checkpoints, exported graphs, the report."""


def run(
    recipe: Recipe,
    out: Path = Path("runs"),
    *,
    context: Context | None = None,
    until: str | None = None,
    force: bool = False,
) -> RunResult | None:
    """Runs a recipe; a step that is done already is not run again.

    Args:
        recipe: What to do. `data.path` must be set.
        out: The run's folder is `out/<recipe.name>`.
        context: Device and progress; seed, `cache_gb` and registry are taken from the recipe.
        until: Stop after this step.
        force: Run every step again, even if its result exists.

    Returns:
        What the run wrote and measured; None if it stopped after `until`.

    Raises:
        RecipeError: The recipe has no data.
        OutputError: The place is full, read-only, or used by another run.

    Example:
        >>> off = ["fine_tune=null", "compress=null"]
        >>> given = ["data.path=photos", "model.name=leaf.model", "inspect=null", "registry=null"]
        >>> quick = ["augment.policy=basic", "evaluate.latency=false"]
        >>> result = acclimate.run(acclimate.Recipe.load(assignments=[*given, *off, *quick]))
        >>> result.ran[:3]
        ('clean', 'probe', 'augment')
        >>> acclimate.predict(result.model, "photo.jpg")[0].error is None
        True
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
            "acclimate run works in one process.",
            hint="Under torchrun, use `acclimate fine-tune` or `acclimate distill`.",
        )
    with _locked(folder):
        job = RunJob(recipe, folder, here, force, steps)
        _read_inputs(job)
        write_atomic(folder / "recipe.yaml", recipe.to_yaml())
        for step in steps:
            reason = step.leave_out and step.leave_out(recipe, job.slots)
            if reason:
                here.progress.info(f"{step.name}: left out, because {reason}")
                continue
            _do(job, step)
            if step.check is not None:
                step.check(recipe, job.slots)
        return finish(job) if until is None else None


def check(recipe: Recipe, context: Context | None = None) -> "Forecast":
    """Checks all that a run checks before its first stage; writes nothing.

    Args:
        recipe: What would be done.
        context: Device and progress.

    Returns:
        How the images would be split if all of them can be used, and the time of each step.

    Raises:
        AcclimateError: The run would fail with this error.
    """
    from acclimate.data.split import split
    from acclimate.pipeline.forecast import forecast

    steps = chosen(recipe, None)
    here = replace(context or Context(), seed=recipe.seed)
    job = RunJob(recipe, Path(), here, force=False, steps=steps)
    _read_inputs(job)
    seed, settings = job.context.seed_for("split"), recipe.clean
    listing, model = job.slots["listing"].load(), job.slots["pretrained"].load()
    dataset = split(listing, val=settings.val, test=settings.test, seed=seed)
    return forecast(recipe, steps, dataset, model, job.context)


@contextmanager
def _locked(folder: Path) -> Any:  # noqa: ANN401 - a generator of nothing
    """One run at a time in a folder, on a disk that has room."""
    hint = "Choose another place with --out, or another --name."
    claim(folder, is_ours=_is_run, replace=True, is_folder=True, hint=hint)
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
    hint = "Wait for it, or choose another --name."
    with working_alone(folder, busy="another run is using this folder.", hint=hint):
        yield


def _is_run(folder: Path) -> bool:
    """Whether a run worked here: its lock, or a recipe that it wrote."""
    if (folder / ".lock").exists():
        return True
    recipe = folder / "recipe.yaml"
    if not recipe.is_file():
        return False
    with recipe.open("rb") as stream:
        return stream.read(len(HEADER)) == HEADER.encode()


def _read_inputs(job: RunJob) -> None:
    """Fills the slots that no stage makes: the listing of the images, and the pretrained model."""
    from acclimate.data.sources.read import read
    from acclimate.models.device import choose_device
    from acclimate.registry.resolve import as_classifier

    recipe = job.recipe
    assert recipe.data.path is not None
    choose_device(job.context.device)  # a wrong one is an error now, and not after the cleaning
    listing = read(recipe.data.path, recipe.data)
    for note in listing.notes:
        job.context.progress.info(f"read: {note}")
    model = as_classifier(recipe.model.name, settings=recipe.model, registry=recipe.registry)
    job.slots["listing"] = Slot(listing.digest, lambda: listing)
    job.slots["pretrained"] = Slot(model.digest, lambda: model)


def _do(job: RunJob, step: Step) -> None:
    """Runs one step, or finds it done."""
    stage = STAGES[step.stage]
    settings = getattr(job.recipe, stage.section)
    inputs = [job.slots[name] for name in step.reads]
    key = _key(job, step, stage, settings, inputs)
    folder = job.folder / f"{step.name}-{key[:8]}"
    done = not job.force and (folder / "stage.json").is_file()
    if done:
        job.context.progress.info(f"{step.name}: already done")
    else:
        _run_stage(job, step, settings, inputs, folder, key)
        job.ran.append(step.name)
    record = read_json(folder / "stage.json")
    assert isinstance(record, dict)
    if job.time_left and not done:
        job.time_left.note(step.name, record["seconds"])
    slot = Slot(record["digest"], lambda: ARTIFACTS[stage.writes].load(folder), folder)
    for name in (step.writes, step.also):
        if name is not None:
            job.slots[name] = slot
    job.done.append(folder)


def _announce(job: RunJob, step: Step) -> None:
    """Says which step begins, and, once the splits are known, how much time is left."""
    from acclimate.pipeline.forecast import TimeLeft, forecast

    if job.time_left is None and "dataset" in job.slots:
        dataset, model = job.slots["dataset"].load(), job.slots["pretrained"].load()
        found = forecast(job.recipe, job.steps, dataset, model, job.context)
        job.context.progress.info(f"split: {found.split_sizes()}")
        job.time_left = TimeLeft(found)
    left = f", {job.time_left.before(step.name)} left" if job.time_left else ""
    number = job.steps.index(step) + 1
    job.context.progress.info(f"── {step.name} ({number} of {len(job.steps)}{left})")


def _key(job: RunJob, step: Step, stage: Stage, settings: Settings, inputs: list[Slot]) -> str:
    parts: list[Any] = [step.name, stage.version, settings.model_dump(mode="json")]
    parts += [[slot.digest for slot in inputs], job.recipe.seed]
    if stage.label_scores(settings):
        # Scores are not part of the digest, so that no other step runs again for them.
        parts.append(job.slots["dataset"].load().scores_digest)
    return digest_json(parts)


def _run_stage(
    job: RunJob,
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
    _announce(job, step)
    context = replace(job.context, workspace=scratch)
    extra = {"name": step.label} if step.label else {}
    artifacts = [slot.load() for slot in inputs]
    result = stage.load()(*artifacts, settings, context=context, **extra)
    with writing_errors(part):
        ARTIFACTS[stage.writes].save(result, part)
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
    if stage.keeps_candidates:
        scratch.rename(part / CANDIDATES)
    else:
        shutil.rmtree(scratch)
    replace_folder(part, folder)
