"""Flags that commands share, and the recipe and context they become."""

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from acclimate.cli.busy import BusyNotice
from acclimate.cli.completion import one_of
from acclimate.context import Context, process_count, process_rank
from acclimate.cpu import OtherWork
from acclimate.progress import LogProgress, Progress, silent

if TYPE_CHECKING:
    from acclimate.recipe import Recipe

Command = Callable[..., Any]
Flags = dict[str, Any]
"""The options of a command, name to value, as click passes them."""


def shared(command: Command) -> Command:
    """The flags of every command that does work."""
    for option in (
        click.option("--debug", is_flag=True, help="Show the traceback of a failure."),
        click.option("--quiet", is_flag=True, help="Print only the result."),
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    ):
        command = option(command)
    return command


def device_flag(command: Command) -> Command:
    """The flag that chooses the device."""
    return click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="DEVICE",
        shell_complete=one_of("auto", "cpu", "cuda"),
        help="auto, cpu, cuda, or one of several GPUs, such as cuda:1.",
    )(command)


def recipe_flags(command: Command) -> Command:
    """The flags that choose settings."""
    for option in (
        device_flag,
        click.option("--seed", type=int, help="Random seed, any integer.  [default: 0]"),
        click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="KEY=VALUE",
            help="Change one setting; `acclimate recipe` lists them. Can be repeated.",
        ),
        click.option(
            "--recipe",
            type=click.Path(path_type=Path),
            metavar="FILE.yaml",
            help="A YAML file of settings, as `acclimate recipe` prints them.",
        ),
    ):
        command = option(command)
    return command


def fix_list_flag(command: Command) -> Command:
    """The flag of commands that read images."""
    return click.option(
        "--fix-list",
        type=click.Path(path_type=Path),
        metavar="FILE.csv",
        help="A list of images to drop, relabel or keep, as `acclimate fixes` writes it.",
    )(command)


def read_recipe(flags: Flags, given: Flags, *, section: str | None = None) -> "Recipe":
    """The recipe of a command: defaults, then --recipe, then --set and the flags of settings.

    Args:
        flags: The flags of the command.
        given: Settings that have their own flags, "section.key" to value or None.
        section: The section of a `--set key=value` without one.

    Returns:
        The recipe.

    Raises:
        RecipeError: A setting is wrong.
    """
    from acclimate.recipe import Recipe

    named = [f"{key}={_yaml(value)}" for key, value in given.items() if value is not None]
    recipe = Recipe.load(
        flags["recipe"], assignments=[*flags["assignments"], *named], section=section
    )
    seed = flags.get("seed")
    return recipe if seed is None else recipe.model_copy(update={"seed": seed})


def _yaml(value: object) -> str:
    return json.dumps(str(value), ensure_ascii=False)


def make_context(flags: Flags, recipe: "Recipe | None" = None) -> Context:
    """The context of a command; without a recipe it has the default seed and cache."""
    here = Context(device=flags.get("device", "auto"), progress=make_progress(flags))
    if recipe is None:
        return here
    return replace(here, seed=recipe.seed, cache_gb=recipe.data.cache_gb, registry=recipe.registry)


def make_progress(flags: Flags) -> Progress:
    """Bars on a terminal, plain lines elsewhere, nothing with --quiet. Tells of a busy machine."""
    if flags["quiet"] or process_rank() > 0:
        logging.getLogger("acclimate").setLevel(logging.ERROR)
        return silent
    shown = _shown()
    # Under torchrun, the other processes would count as the work of others.
    return shown if process_count() > 1 else BusyNotice(shown, OtherWork())


def _shown() -> Progress:
    if sys.stderr.isatty():
        from acclimate.terminal import TerminalProgress

        return TerminalProgress()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("acclimate").setLevel(logging.INFO)
    return LogProgress()


def reading(command: str, *inputs: object) -> str:
    """The first line of a command, shown before PyTorch is imported, which takes seconds.

    Args:
        command: Its name.
        *inputs: What it reads; those that are None are left out.

    Returns:
        The line.
    """
    return f"{command}: reading {' and '.join(str(one) for one in inputs if one is not None)}"
