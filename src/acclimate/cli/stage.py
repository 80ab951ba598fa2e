"""One command for each stage, made from its row."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from acclimate.cli import output
from acclimate.cli.flags import fix_list_flag, make_context, read_recipe, recipe_flags, shared
from acclimate.cli.search import left_by, minutes_of_training, searching, trial_flags
from acclimate.context import Context, process_rank
from acclimate.errors import AcclimateError, OutputError, UsageFault
from acclimate.files import digest_json, read_json
from acclimate.pipeline.stages import Stage

if TYPE_CHECKING:
    from acclimate.recipe import Recipe

_METAVARS = {"classifier": "MODEL", "dataset": "DATA", "evaluation": "EVALUATION"}
_MARKERS = {"classifier": "model.json", "evaluation": "evaluation.json"}
_KEYS = {
    "classifier": "contract",
    "evaluation": "classifier_digest",
    "comparison": "differences",
    "policy": "crop_area",
}
"""What stands in the JSON of each kind, and in hardly anything else's."""


def stage_command(stage: Stage) -> click.Command:
    """The command of a stage, made from its row: an argument a read, and the shared flags.

    Args:
        stage: The row.

    Returns:
        The command.
    """
    reads = [kind for kind in stage.reads if kind != "policy"]
    names = [f"{kind}_{index}" for index, kind in enumerate(reads)]
    must = stage.writes not in ("evaluation", "comparison")

    def callback(out: Path | None, force: bool, **flags: Any) -> None:  # noqa: ANN401 - click's
        _run_stage(stage, reads, [flags.pop(n) for n in names], out, force, flags)

    policy = click.Option(
        ["--policy"], type=click.Path(path_type=Path),
        help="What `acclimate augment` wrote; in place of choosing again.",
    )  # fmt: skip

    command = click.Command(
        stage.name,
        callback=callback,
        params=[
            *(
                click.Argument([name], metavar=_METAVARS[kind])
                for name, kind in zip(names, reads, strict=True)
            ),
            click.Option(
                ["--out", "-o"], type=click.Path(path_type=Path), required=must,
                help=f"Where the {stage.writes} goes.",
            ),
            click.Option(["--force"], is_flag=True, help="Replace what stands at --out."),
            *([policy] if "policy" in stage.reads else []),
        ],
        help=stage.summary,
        epilog=f"Settings: acclimate recipe {stage.section}",
    )  # fmt: skip
    if stage.name == "clean":
        fix_list_flag(command)
    if stage.name == "fine-tune":
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
    policy = flags.pop("policy", None)
    fix_list = {"data.fix_list": flags.pop("fix_list", None)}
    recipe = read_recipe(flags, fix_list | minutes_of_training(flags), section=stage.section)
    settings = getattr(recipe, stage.section)
    if out is not None:
        _check_out(out, stage.writes, force)
    context = make_context(flags, recipe)
    things = [
        _thing(kind, text, stage, recipe, context) for kind, text in zip(reads, given, strict=True)
    ]
    if "policy" in stage.reads:
        things.append(_policy(policy, stage, things, recipe, context))
    if out is not None:
        weighted = getattr(settings, "label_weights", False)
        key = digest_json(
            [stage.name, settings.model_dump(mode="json"), recipe.seed]
            + [t.digest for t in things]
            + [t.scores_digest for t in things if weighted and hasattr(t, "scores_digest")]
        )
        workspace = out.absolute().with_name(f".{out.name}.{key[:8]}.work")
        context = replace(context, workspace=workspace)
    search = out is not None and flags.get("trials") is not None
    function = stage.function
    if out is not None and search:
        function = searching(recipe, given, out, flags, own_policy=policy is not None)
    result = function(*things, settings, context=context)
    if process_rank() > 0:
        return
    if out is not None:
        result.save(out)
        shutil.rmtree(workspace, ignore_errors=True)
        _track(stage, recipe, result, out.name, context)
    also = left_by(out) if out is not None and search else {}
    output.result(stage.writes, result, out, as_json=flags["as_json"], also=also)
    if stage.name == "compare":
        from acclimate.evaluation.comparison import check_required

        check_required(result, settings)


def _track(stage: Stage, recipe: "Recipe", result: Any, name: str, context: Context) -> None:  # noqa: ANN401 - the stage's thing
    """Sends the curve of a training where the recipe asks for it."""
    uri = recipe.registry.tracking_uri if recipe.registry else None
    if uri and stage.writes == "classifier":
        from acclimate.registry.tracking import track

        track(uri, name, result, context.progress)


def _thing(kind: str, text: str, stage: Stage, recipe: "Recipe", context: Context) -> Any:  # noqa: ANN401 - one of the things that flow
    """What an argument names. To clean needs no torch, which would take four seconds to come."""
    if not text.strip():
        raise UsageFault(f"{_METAVARS[kind]} is empty.", hint="Name a file or folder.")
    if stage.name == "clean":
        from acclimate.data.sources.read import read

        listing = read(Path(text), recipe.data)
        for note in listing.notes:
            context.progress.info(f"read: {note}")
        return listing
    from acclimate.api.inputs import as_dataset, to_judge
    from acclimate.registry.resolve import as_classifier

    if kind == "classifier":
        settings = recipe.model.model_copy(update={"name": text})
        return as_classifier(text, settings=settings, registry=recipe.registry)
    if kind == "evaluation":
        from acclimate.evaluation.evaluate import Evaluation

        return Evaluation.load(Path(text))
    if stage.name == "evaluate":
        return to_judge(text, source=recipe.data, context=context)
    return as_dataset(text, source=recipe.data, settings=recipe.clean, context=context)


def _policy(
    file: Path | None, stage: Stage, things: Sequence[Any], recipe: "Recipe", context: Context
) -> Any:  # noqa: ANN401 - a Policy
    """What is done to training images: as a file says but for what is set, or as is asked."""
    from acclimate.augmentation.policy import Policy, choose_policy, with_overrides

    if file is not None:
        return with_overrides(Policy.load(file), recipe.augment)
    if stage.name == "quantize":
        # It seldom trains: to ask the data would take longer than all else.
        return choose_policy(recipe.augment, context=context)
    from acclimate.augmentation.auto_policy import auto_policy

    classifier, dataset = things
    if classifier.network is None:  # an ONNX teacher: the recipe's own model judges in its place
        from acclimate.models.pretrained import pretrained

        classifier = pretrained(recipe.model)
    return auto_policy(classifier, dataset, recipe.augment, context=context)


def _check_out(out: Path, kind: str, force: bool) -> None:
    """Never takes the place of something that acclimate did not write."""
    empty = out.is_dir() and not any(out.iterdir())
    if not out.exists() or (empty and kind in _MARKERS):
        if kind == "dataset" and out.suffix.lower() != ".parquet":
            raise OutputError(
                "a data set is written as Parquet.", where=out, hint="Let the name end in .parquet."
            )
        return
    if not _is_ours(out, kind):
        raise OutputError(
            f"something stands here that is no {kind} of acclimate's.",
            where=out,
            hint="Choose another place with --out.",
        )
    if not force:
        raise OutputError(
            f"a {kind} stands here already.",
            where=out,
            hint="Choose another place with --out, or replace it with --force.",
        )


def _is_ours(out: Path, kind: str) -> bool:
    """Whether a place holds such a thing, told by its content and not by its name."""
    if kind == "dataset":
        from acclimate.data.dataset import is_saved_dataset

        return is_saved_dataset(out)
    marker = out / _MARKERS[kind] if kind in _MARKERS else out
    try:
        record = read_json(marker)
    except (AcclimateError, OSError):
        return False
    return isinstance(record, dict) and "format" in record and _KEYS[kind] in record
