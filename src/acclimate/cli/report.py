"""`--report`: the result as a page with pictures."""

from pathlib import Path
from typing import Any

import click

from acclimate.errors import OutputError
from acclimate.files import claim, write_atomic
from acclimate.pipeline.stages import Stage

_SUFFIXES = (".html", ".htm")


def report_flag(command: click.Command) -> click.Command:
    """The flag of commands whose result can be shown as a page."""
    return click.option(
        "--report",
        type=click.Path(path_type=Path),
        metavar="FILE.html",
        help="Also write what was found as one HTML page with images.",
    )(command)


def claim_report(place: Path | None, *, replace: bool) -> None:
    """Checks that a page may be written here, before the work begins.

    Args:
        place: As the user gave it; None if no page is wanted.
        replace: Whether an existing page may be replaced.

    Raises:
        OutputError: It is not an HTML file, or exists already.
    """
    if place is None:
        return
    if place.suffix.lower() not in _SUFFIXES:
        raise OutputError(
            "a report is an HTML page.", where=place, hint="Choose a name that ends in .html."
        )
    hint = "Replace it with --force, or choose another name for --report."
    claim(place, is_ours=lambda path: path.is_file(), replace=replace, hint=hint)


def write_report(place: Path | None, result: Any, stage: Stage) -> dict[str, str]:  # noqa: ANN401 - an artifact
    """Writes the page of a result.

    Args:
        place: Where; None if no page is wanted.
        result: What the stage returned.
        stage: The row.

    Returns:
        The outputs to print, name to path.
    """
    if place is None or stage.report is None:
        return {}
    write_atomic(place, stage.report()(result))
    return {"report": str(place)}
