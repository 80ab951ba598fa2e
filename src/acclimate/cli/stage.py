"""One command for each stage, made from its row."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from acclimate.cli import output
from acclimate.cli.candidates import candidates_folder, print_candidates
from acclimate.cli.command import AcclimateCommand
from acclimate.cli.completion import ModelName
from acclimate.cli.fail_on import fail_on_flag, require_none, watched_flags
from acclimate.cli.flags import (
    fix_list_flag,
    make_context,
    read_recipe,
    reading,
    recipe_flags,
    shared,
)
from acclimate.cli.report import claim_report, report_flag, write_report
from acclimate.cli.search import left_by, minutes_of_training, searching, trial_flags
from acclimate.context import Context, process_rank
from acclimate.errors import OutputError, UsageFault
from acclimate.files import claim, digest_json
from acclimate.pipeline.artifacts import ARTIFACTS
from acclimate.pipeline.stages import Stage

if TYPE_CHECKING:
    from acclimate.augmentation.policy import Policy
    from acclimate.recipe import Recipe

_METAVARS = {"classifier": "MODEL", "dataset": "DATA", "evaluation": "EVALUATION"}
_TYPES = {"classifier": ModelName(), "dataset": click.Path(), "evaluation": click.Path()}
_PRINTED = ("evaluation", "comparison")
"""The kinds that are printed whole: their commands may leave --out out."""


def stage_command(stage: Stage) -> click.Command:
    """The command of a stage, made from its row: an argument for each input, and shared flags.

    Args:
        stage: The row.

    Returns:
        The command.
    """
    reads = [kind for kind in stage.reads if kind != "policy"]
    names = [f"{kind}_{index}" for index, kind in enumerate(reads)]

    def callback(out: Path | None, force: bool, **flags: Any) -> None:  # noqa: ANN401 - click's
        _run_stage(stage, reads, [flags.pop(n) for n in names], out, force, flags)

    policy = click.Option(
        ["--policy"], type=click.Path(path_type=Path),
        help="A policy that `acclimate augment` wrote.",
    )  # fmt: skip

    command = AcclimateCommand(
        stage.name,
        example=stage.example,
        section=stage.section,
        callback=callback,
        params=[
            *(
                click.Argument([name], metavar=_METAVARS[kind], type=_TYPES[kind])
                for name, kind in zip(names, reads, strict=True)
            ),
            click.Option(
                ["--out", "-o"], type=click.Path(path_type=Path),
                required=stage.writes not in _PRINTED, help=f"Where to write the {stage.writes}.",
            ),
            click.Option(["--force"], is_flag=True, help="Replace what exists at --out."),
            *([policy] if "policy" in stage.reads else []),
            *(
                click.Option([f"--{name.replace('_', '-')}"], is_flag=True, help=text)
                for name, text in stage.switches.items()
            ),
            *(
                click.Option([f"--{name.replace('_', '-')}"], metavar=placeholder, help=text)
                for name, (placeholder, text) in stage.options.items()
            ),
        ],
        help=stage.summary,
        epilog=f"Settings: acclimate recipe {stage.section}",
    )  # fmt: skip
    if stage.data == "listing":
        fix_list_flag(command)
    if stage.writes == "dataset":
        fail_on_flag(command)
    if stage.report is not None:
        report_flag(command)
    if stage.searches:
        trial_flags(command)
    recipe_flags(command)
    shared(command)
    return command


def _run_stage(
    stage: Stage,
    reads: Sequence[str],
    given: Sequence[str],
    out: Path | None,
    force: bool,
    flags: dict[str, Any],
) -> None:
    policy, fail_on = flags.pop("policy", None), watched_flags(flags.pop("fail_on", None))
    report = flags.pop("report", None)
    given_settings = {"data.fix_list": flags.pop("fix_list", None), **minutes_of_training(flags)}
    for name in (*stage.switches, *stage.options):
        given_settings[f"{stage.section}.{name}"] = flags.pop(name) or None
    recipe = read_recipe(flags, given_settings, section=stage.section)
    settings = recipe.section(stage.section)
    if out is not None:
        _claim(out, stage.writes, force)
    claim_report(report, replace=force)
    context = make_context(flags, recipe)
    context.progress.info(reading(stage.name, *given))
    artifacts = [
        _artifact(kind, text, stage, recipe, context)
        for kind, text in zip(reads, given, strict=True)
    ]
    if "policy" in stage.reads:
        artifacts.append(_policy(policy, stage, artifacts, recipe, context))
    if out is not None:
        workspace = _workspace(stage, settings, recipe.seed, artifacts, out)
        context = replace(context, workspace=workspace)
    search = out is not None and flags.get("trials") is not None
    function = stage.load()
    if out is not None and search:
        function = searching(recipe, given, out, flags, own_policy=policy is not None)
    result = function(*artifacts, settings, context=context)
    if process_rank() > 0:
        return
    also: dict[str, str] = {}
    if out is not None:
        result.save(out)
        also = _left_beside(stage, out, workspace, search=search, as_json=flags["as_json"])
        _track(stage, recipe, result, out.name, context)
    also |= write_report(report, result, stage)
    output.result(stage.writes, result, out, as_json=flags["as_json"], also=also)
    if fail_on:
        require_none(result, fail_on)
    if stage.require is not None:
        stage.require()(result, settings)


def _workspace(
    stage: Stage,
    settings: Any,  # noqa: ANN401 - of the stage
    seed: int,
    artifacts: Sequence[Any],
    out: Path,
) -> Path:
    """The hidden folder beside the output for checkpoints; another one if any input differs.

    A search keeps its candidates for good, in a folder that can be seen.
    """
    if stage.keeps_candidates:
        return candidates_folder(out)
    scored = [a for a in artifacts if hasattr(a, "scores_digest")]
    key = digest_json(
        [stage.name, settings.model_dump(mode="json"), seed]
        + [a.digest for a in artifacts]
        + [a.scores_digest for a in scored if stage.label_scores(settings)]
    )
    return out.absolute().with_name(f".{out.name}.{key[:8]}.work")


def _left_beside(
    stage: Stage, out: Path, workspace: Path, *, search: bool, as_json: bool
) -> dict[str, str]:
    """Clears up, and prints what stays: name to path of what a search leaves beside the model."""
    if stage.keeps_candidates:
        return print_candidates(workspace, as_json=as_json)
    shutil.rmtree(workspace, ignore_errors=True)
    return left_by(out) if search else {}


def _track(stage: Stage, recipe: "Recipe", result: Any, name: str, context: Context) -> None:  # noqa: ANN401 - an artifact
    """Sends the curves of a trained classifier to MLflow, if the recipe names a server."""
    uri = recipe.registry.tracking_uri if recipe.registry else None
    if uri and stage.writes == "classifier":
        from acclimate.registry.tracking import track

        track(uri, name, result, context.progress)


def _artifact(kind: str, text: str, stage: Stage, recipe: "Recipe", context: Context) -> Any:  # noqa: ANN401 - an artifact
    """What an argument names. A listing is read without torch, whose import takes four seconds."""
    if not text.strip():
        raise UsageFault(f"{_METAVARS[kind]} is empty.", hint="Name a file or folder.")
    if kind == "dataset" and stage.data == "listing":
        from acclimate.data.sources.read import read

        listing = read(Path(text), recipe.data)
        for note in listing.notes:
            context.progress.info(f"read: {note}")
        return listing
    if kind == "classifier":
        from acclimate.registry.resolve import as_classifier

        settings = recipe.model.model_copy(update={"name": text})
        return as_classifier(text, settings=settings, registry=recipe.registry)
    if kind == "evaluation":
        return ARTIFACTS[kind].of().load(Path(text))
    from acclimate.api.inputs import as_dataset, as_evaluation_data

    if stage.data == "test":
        return as_evaluation_data(text, source=recipe.data, context=context)
    return as_dataset(text, source=recipe.data, settings=recipe.clean, context=context)


def _policy(
    file: Path | None, stage: Stage, artifacts: Sequence[Any], recipe: "Recipe", context: Context
) -> "Policy":
    """The policy of a file, with the recipe's own settings on top; or a policy that is chosen."""
    from acclimate.api.inputs import as_policy
    from acclimate.augmentation.policy import Policy, choose_policy, with_overrides

    if file is not None:
        return with_overrides(Policy.load(file), recipe.augment)
    if not stage.tests_augmentations:
        return choose_policy(recipe.augment, context=context)
    classifier, dataset = artifacts
    return as_policy(
        None, classifier, dataset, settings=recipe.augment, fallback=recipe.model, context=context
    )


def _claim(out: Path, kind: str, force: bool) -> None:
    """Checks that an artifact may be written here, under a name that fits it."""
    artifact = ARTIFACTS[kind]
    claim(out, is_ours=artifact.is_at, replace=force, is_folder=artifact.is_folder)
    if kind == "dataset" and not out.exists() and out.suffix.lower() != ".parquet":
        raise OutputError(
            "a data set is written as Parquet.", where=out, hint="Use a name that ends in .parquet."
        )
