"""Commands that write a fix list or a clean copy of a data set."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from acclimate.cli import output
from acclimate.cli.command import AcclimateCommand
from acclimate.cli.flags import make_context, read_recipe, recipe_flags, shared
from acclimate.errors import OutputError, count
from acclimate.files import claim, write_atomic

if TYPE_CHECKING:
    from acclimate.context import Context
    from acclimate.data.dataset import Dataset


@click.command(
    cls=AcclimateCommand, example="acclimate fixes inspected.parquet -o fixes.csv", section="clean"
)
@click.argument("data", metavar="DATA", type=click.Path())
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="A CSV file.")
@recipe_flags
@shared
def fixes(data: str, out: Path, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Write a fix list from the flags of DATA: edit it, then apply it with --fix-list."""
    from acclimate.cleaning.suggested_fixes import suggest_fixes
    from acclimate.data.sources.fix_list import fixes_as_csv

    if out.suffix.lower() != ".csv":
        raise OutputError(
            "a fix list is a CSV file.", where=out, hint="Choose a name that ends in .csv."
        )
    hint = "It may hold your decisions: choose a new file with --out."
    claim(out, is_ours=lambda _: True, replace=False, hint=hint)
    found = suggest_fixes(_dataset(data, flags)[0])
    write_atomic(out, fixes_as_csv(found))
    actions = dict(Counter(fix.action for fix in found))
    if flags["as_json"]:
        output.print_json({"out": str(out), "fixes": len(found), "actions": actions})
    else:
        shown = ", ".join(f"{n:,} to {action}" for action, n in actions.items())
        click.echo(f"fixes  {out} ({': '.join(filter(None, (count(len(found), 'image'), shown)))})")


@click.command(
    cls=AcclimateCommand, example="acclimate copy photos.parquet -o clean-photos", section="clean"
)
@click.argument("data", metavar="DATA", type=click.Path())
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    required=True,
    help="A new folder; an archive (.zip, .tar, .tar.gz); a list (.csv, .tsv).",
)
@click.option("--lossless", is_flag=True, help="Write PNG files with exactly the same pixels.")
@click.option("--force", is_flag=True, help="Replace the archive or list at --out.")
@recipe_flags
@shared
def copy(data: str, out: Path, lossless: bool, force: bool, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Copy the kept images of DATA to a new folder or archive, without EXIF and GPS.

    If the name ends in .csv or .tsv, a list of the images is written instead.
    """
    from acclimate.data.export.copy_images import copy_images

    dataset, context = _dataset(data, flags)
    written = copy_images(dataset, out, lossless=lossless, force=force, context=context)
    if flags["as_json"]:
        output.print_json({"out": str(out), "images": written})
    else:
        click.echo(f"images  {out} ({written:,})")


def _dataset(data: str, flags: dict[str, Any]) -> "tuple[Dataset, Context]":
    """The data set at DATA; does not import `api.inputs`, since torch takes seconds to load."""
    from acclimate.cleaning.clean import load_or_clean

    recipe = read_recipe(flags, {}, section="clean")
    context = make_context(flags, recipe)
    dataset = load_or_clean(Path(data), source=recipe.data, settings=recipe.clean, context=context)
    return dataset, context
