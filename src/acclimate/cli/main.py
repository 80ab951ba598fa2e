"""The command `acclimate`. Only what `--help` needs is imported at the top of this module."""

import errno
import json
import os
import sys
import traceback
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from acclimate import __version__
from acclimate.cache import cache_folder, temporary_folder
from acclimate.cli import output
from acclimate.cli.command import AcclimateGroup
from acclimate.cli.completion import ModelName, completion, one_of
from acclimate.cli.data import copy, fixes
from acclimate.cli.find_rate import find_rate
from acclimate.cli.flags import (
    Flags,
    device_flag,
    fix_list_flag,
    make_context,
    make_progress,
    read_recipe,
    reading,
    recipe_flags,
    shared,
)
from acclimate.cli.models import models
from acclimate.cli.predict import predict
from acclimate.cli.stage import stage_command
from acclimate.cpu import set_thread_variables
from acclimate.errors import AcclimateError, Interrupted, OutputError, UsageFault
from acclimate.files import as_text, write_atomic
from acclimate.pipeline.stages import STAGES

if TYPE_CHECKING:
    from acclimate.recipe import Recipe

_SECTIONS = (
    "data", "clean", "inspect", "augment", "model", "probe", "fine-tune", "search", "compress",
    "distill", "prune", "quantize", "export", "evaluate", "compare", "registry",
)  # fmt: skip
"""Of a recipe, which takes long to import."""
_RESUME = "Run the same command again to resume where it stopped."


class _StageFirst(AcclimateGroup):
    """Lists the commands in the order in which a run uses them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The main job, the stages, the rest."""
        rest = [name for name in self.commands if name not in STAGES]
        return ["run", *STAGES, *(name for name in rest if name != "run")]


@click.group(cls=_StageFirst, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="acclimate")
def cli() -> None:
    """Fit a pretrained image classifier to your own images, and ship it.

    `acclimate run --data photos/` runs all stages; each stage also runs alone.
    """


@cli.command(example="acclimate run --data photos/ --name leaf", section="")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Your images: a folder with one folder per class, an archive of one, or a list.",
)
@click.option(
    "--model",
    type=ModelName(),
    metavar="MODEL",
    help="efficientnet-lite0, -lite1 or -lite2, timm:NAME, a model folder, an .onnx file, or "
    "models:NAME@ALIAS.  [default: efficientnet-lite0]",
)
@click.option(
    "--name", metavar="NAME", help="Name of the run and of the model it makes.  [default: model]"
)
@click.option(
    "--out",
    default="runs",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder of the runs.",
)
@click.option(
    "--resume/--force", default=True, help="Keep steps that are done (default), or run all again."
)
@click.option(
    "--until",
    metavar="STEP",
    help="Stop after this step, such as clean or fine-tune; --dry-run lists the steps.",
)
@click.option(
    "--epochs", type=click.IntRange(1), help="Epochs of every training.  [default: automatic]"
)
@click.option(
    "--max-minutes",
    type=click.FloatRange(0, min_open=True),
    help="Time limit of all trainings together, in place of --epochs.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Check everything, print splits, steps, time and recipe, and write nothing.",
)
@fix_list_flag
@recipe_flags
@shared
def run(
    data: Path | None,
    model: str | None,
    name: str | None,
    out: Path,
    resume: bool,
    until: str | None,
    epochs: int | None,
    max_minutes: float | None,
    dry_run: bool,
    fix_list: Path | None,
    **flags: Any,  # noqa: ANN401 - click's
) -> None:
    """Run all stages on your images: one model folder, one report."""
    given = {
        "data.path": data and data.absolute(),
        "data.fix_list": fix_list and fix_list.absolute(),
        "model.name": model,
        "name": name,
    }
    recipe = read_recipe(flags, given).limited(epochs=epochs, max_minutes=max_minutes)
    if dry_run:
        _dry_run(recipe, flags)
        return
    _run(recipe, out, flags, until=until, force=not resume)


def _dry_run(recipe: "Recipe", flags: Flags) -> None:
    from acclimate.pipeline.run import check

    context = make_context(flags, recipe)
    found = check(recipe, context)
    if flags["as_json"]:
        plan = {"splits": found.splits, "seconds": found.seconds}
        output.print_json({**plan, "recipe": recipe.model_dump(mode="json")})
        return
    for line in (f"split: {found.split_sizes()}, if all can be used", *found.lines()):
        context.progress.info(line)
    click.echo(recipe.to_yaml(), nl=False)


def _run(
    recipe: "Recipe", out: Path, flags: Flags, *, until: str | None = None, force: bool = False
) -> None:
    context = make_context(flags, recipe)
    context.progress.info(reading("run", recipe.data.path, recipe.model.name))
    from acclimate.evaluation.comparison import check_required
    from acclimate.pipeline.run import run as run_recipe
    from acclimate.terminal import print_lines, print_table

    result = run_recipe(recipe, out, context=context, until=until, force=force)
    if result is None:
        stopped = {"run": str(out / recipe.name), "until": until}
        if flags["as_json"]:
            output.print_json(stopped)
        else:
            print_lines([f"run     {stopped['run']} (stopped after {until})"])
        return
    if flags["as_json"]:
        output.print_json(
            {
                "model": str(result.model),
                "report": str(result.report),
                "registered": result.registered,
                "verdict": result.verdict,
                "ran": result.ran,
                "evaluations": {k: output.figures(e) for k, e in result.evaluations.items()},
                "comparisons": {k: c.as_record() for k, c in result.comparisons.items()},
            }
        )
    else:
        title = f"{recipe.name}: baseline and result"
        print_table(title, *output.summary(result.evaluations))
        places = [f"model   {result.model}", f"report  {result.report}"]
        print_lines([*places, *result.verdict])
    check_required(result.comparisons["gain"], recipe.compare)


@cli.command(example="acclimate demo")
@click.option(
    "--out",
    default="demo",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for images and results.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed, any integer.")
@device_flag
@shared
def demo(out: Path, seed: int, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Run all stages on handwritten digits from the packages."""
    make_progress(flags).info("demo: writing images of digits")
    from acclimate.demo import demo_recipe

    recipe = demo_recipe(out, seed=seed)
    _run(recipe, out / "runs", flags)


@cli.command(
    example="acclimate recipe fine-tune", epilog=f"SECTION is one of: {', '.join(_SECTIONS)}."
)
@click.argument("section", required=False, shell_complete=one_of(*_SECTIONS))
@click.option("--schema", is_flag=True, help="Print the JSON Schema, for editors.")
def recipe(section: str | None, schema: bool) -> None:
    """Print all settings, or explain those of one SECTION."""
    from acclimate.errors import RecipeError, near_names
    from acclimate.recipe import SECTIONS, Recipe
    from acclimate.setting_help import describe
    from acclimate.settings import json_schema
    from acclimate.terminal import print_table

    if schema:
        output.print_json(json_schema(Recipe))
        return
    if section is None:
        click.echo(Recipe().to_yaml(), nl=False)
        return
    name = section.replace("-", "_")
    if name not in SECTIONS:
        raise RecipeError(f"no section {section!r}. {near_names(section, SECTIONS)}")
    rows = [list(row) for row in describe(SECTIONS[name])]
    print_table(section, ["setting", "values", "default", "meaning"], rows)


@cli.command(example="acclimate doctor")
@shared
def doctor(**flags: Any) -> None:  # noqa: ANN401 - click's
    """Show what is installed, and what would make it faster."""
    from acclimate.doctor import examine
    from acclimate.terminal import print_table

    findings = examine()
    if flags["as_json"]:
        output.print_json([asdict(f) for f in findings])
        return
    rows = [[f.topic, f.fact, f.advice] for f in findings]
    print_table("this machine", ["", "found", "advice"], rows)


cli.add_command(models)
cli.add_command(fixes)
cli.add_command(copy)
cli.add_command(find_rate)
cli.add_command(predict)
cli.add_command(completion)
for _stage in STAGES.values():
    cli.add_command(stage_command(_stage))


def main() -> None:
    """The installed command: every failure ends with one sentence and an exit code."""
    set_thread_variables()  # before anything imports numpy or PyTorch
    try:
        cli(prog_name="acclimate", standalone_mode=False)
    except AcclimateError as error:
        sys.exit(_failed(error))
    except (KeyboardInterrupt, click.Abort):
        sys.exit(_failed(Interrupted("stopped.", hint=_RESUME)))
    except click.ClickException as error:
        if "--json" in sys.argv:
            sys.exit(_failed(UsageFault(error.format_message())))
        error.show()
        sys.exit(error.exit_code)
    except SystemExit as ending:
        # click exits with 1 if the reader closed the pipe early (`| head`): not a failure.
        left = "PacifyFlushWrapper" in type(sys.stdout).__name__
        sys.exit(0 if left else ending.code)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        sys.exit(_failed(_users(error) or _ours()))


def _users(error: Exception) -> AcclimateError | None:
    """The error as one that the user can fix, if it is one; None for all others."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        _drop_output()
        return OutputError(f"cannot write the result ({error.strerror}).")
    if isinstance(error, PermissionError) and isinstance(error.filename, str):
        hint = "Change the permissions, or choose another path."
        return UsageFault("permission denied.", where=error.filename, hint=hint)
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        hint = "Rename the file or folder."
        return UsageFault(f"{as_text(error.object)!r} is not valid UTF-8.", hint=hint)
    if "sqlalche.me" in str(error):  # MLflow passes on the message of the database
        text, hint = str(error), "Choose another store."
        reason = "the database of the store fails"
        if "full" in text:
            reason, hint = "the disk is full", "Free some space, or choose another store."
        elif "locked" in text:
            reason, hint = "another program uses the store", "Run again later."
        return OutputError(f"cannot write here ({reason}).", where="registry.store", hint=hint)
    return None


def _ours() -> AcclimateError:
    """A bug of acclimate: the traceback is written to a file, one line is shown."""
    text = traceback.format_exc()
    log = _written_log(text)
    traceback_in = f"The traceback is in {log}; or run again" if log else "Run again"
    hint = f"{traceback_in} with --debug."
    return AcclimateError(f"acclimate failed: {text.strip().splitlines()[-1]}.", hint=hint)


def _written_log(text: str) -> Path | None:
    """The file that a traceback was written to; None if there is no place for one."""
    for folder in (cache_folder, temporary_folder):
        with suppress(AcclimateError, OSError):
            log = folder() / "last-error.log"
            write_atomic(log, text)
            return log
    return None


def _drop_output() -> None:
    """Buffered output for a full disk would end in a traceback at exit: it is dropped."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _failed(error: AcclimateError) -> int:
    if "--debug" in sys.argv:
        traceback.print_exc()
    if "--json" in sys.argv:
        sys.stderr.write(json.dumps(error.as_record(), ensure_ascii=False) + "\n")
        return error.exit_code
    from acclimate.terminal import print_error

    print_error(error)
    return error.exit_code
