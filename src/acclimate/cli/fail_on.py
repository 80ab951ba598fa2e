"""`--fail-on`: exit with 3 if images have certain flags, so that CI can stop."""

import typing
from typing import TYPE_CHECKING

import click

from acclimate.errors import NotClean, UsageFault, count, near_names

if TYPE_CHECKING:
    from acclimate.data.dataset import Dataset

_LEAKS = ("leak", "group_leak", "near_leak")
_INSPECTED = ("label_error", "outlier")


def fail_on_flag(command: click.Command) -> click.Command:
    """The flag of commands that write a data set."""
    return click.option(
        "--fail-on",
        metavar="FLAGS",
        help="Exit with 3 if an image has one of these flags, with commas between them: "
        "duplicate, leak, group_leak, label_conflict, near_duplicate, near_leak, "
        "near_label_conflict, dark, bright, low_contrast, blurred, odd_aspect, odd_size, grey, "
        "label_error, outlier.",
    )(command)


def watched_flags(text: str | None) -> tuple[str, ...]:
    """Reads the flags that the user listed.

    Args:
        text: Names with commas between them; "leak" means all kinds of leaks.

    Returns:
        The flags.

    Raises:
        UsageFault: A name is no flag.
    """
    from acclimate.cleaning.settings import DropName

    known = (*typing.get_args(DropName), *_INSPECTED)
    names = [name.strip().replace("-", "_") for name in (text or "").split(",")]
    for name in filter(None, names):
        if name not in known:
            raise UsageFault(f"--fail-on: {name!r} is not a flag. {near_names(name, known)}")
    if text is not None and not any(names):
        raise UsageFault("--fail-on names no flag.", hint="Example: --fail-on leak,label_conflict.")
    flags = [flag for name in names for flag in (_LEAKS if name == "leak" else (name,)) if flag]
    return tuple(dict.fromkeys(flags))


def require_none(dataset: "Dataset", flags: tuple[str, ...]) -> None:
    """Checks that no image has one of the flags, whether it was left out or kept.

    Args:
        dataset: Cleaned.
        flags: As `watched_flags` returns them.

    Raises:
        NotClean: Some images have.
    """
    found = [flags_ or () for flags_ in dataset.table["flags"].to_pylist()]
    counts = {flag: sum(flag in some for some in found) for flag in flags}
    number = sum(not set(flags).isdisjoint(some) for some in found)
    if number:
        shown = ", ".join(f"{flag}: {n:,}" for flag, n in counts.items() if n)
        raise NotClean(
            f"{count(number, 'image has', 'images have')} a flag of --fail-on ({shown})."
        )
