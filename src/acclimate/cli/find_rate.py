"""The command that tests learning rates."""

import csv
import io
from pathlib import Path
from typing import Any

import click

from acclimate.cli import output
from acclimate.cli.command import AcclimateCommand
from acclimate.cli.completion import ModelName
from acclimate.cli.flags import make_context, read_recipe, reading, recipe_flags, shared
from acclimate.files import claim, write_atomic

_TABLE, _PICTURE = "rates.csv", "rates.svg"


@click.command(
    "find-rate",
    cls=AcclimateCommand,
    example="acclimate find-rate efficientnet-lite0 photos.parquet -o rates",
    section="fine_tune",
)
@click.argument("model", type=ModelName())
@click.argument("data", type=click.Path())
@click.option(
    "--out",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder for rates.csv and rates.svg.",
)
@click.option("--force", is_flag=True, help="Replace an earlier result at --out.")
@recipe_flags
@shared
def find_rate(model: str, data: str, out: Path, force: bool, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Test learning rates on your images, and plot the loss."""
    recipe = read_recipe(flags, {}, section="fine_tune")
    claim(out, is_ours=_is_rates, replace=force, is_folder=True)
    context = make_context(flags, recipe)
    context.progress.info(reading("find-rate", model, data))
    from acclimate.api.inputs import as_dataset, as_policy
    from acclimate.fine_tuning.find_learning_rate import find_rate as find
    from acclimate.fine_tuning.settings import FineTune
    from acclimate.registry.resolve import as_classifier
    from acclimate.reporting.figures import rate_range

    named = recipe.model.model_copy(update={"name": model})
    classifier = as_classifier(model, settings=named, registry=recipe.registry)
    dataset = as_dataset(data, source=recipe.data, settings=recipe.clean, context=context)
    policy = as_policy(
        None, classifier, dataset, settings=recipe.augment, fallback=recipe.model, context=context
    )
    settings = recipe.fine_tune or FineTune()
    found = find(classifier, dataset, policy, settings, context=context)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["rate", "loss", "error"])
    lines = zip(found.rates, found.losses, found.errors, strict=True)
    writer.writerows([f"{value:.6g}" for value in line] for line in lines)
    write_atomic(out / _TABLE, buffer.getvalue())
    picture = rate_range(found.rates, found.losses, found.errors, found.suggestion)
    write_atomic(out / _PICTURE, picture)
    if flags["as_json"]:
        told = {"learning_rate": found.suggestion, "reason": found.reason, "out": str(out)}
        output.print_json(told)
        return
    if found.suggestion is None:
        click.echo(f"learning_rate  none: {found.reason}. Leave it at auto.")
    else:
        click.echo(f"learning_rate  {found.suggestion:.2g} ({found.reason})")
    click.echo(f"curve          {out / _PICTURE}")


def _is_rates(out: Path) -> bool:
    """Whether a folder holds an earlier test of learning rates and nothing else."""
    return out.is_dir() and {path.name for path in out.iterdir()} <= {_TABLE, _PICTURE}
