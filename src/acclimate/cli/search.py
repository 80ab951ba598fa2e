"""The flags that turn `fine-tune` into a search, and what a search prints."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from acclimate.cli.flags import Command, Flags

if TYPE_CHECKING:
    from acclimate.augmentation.policy import Policy
    from acclimate.context import Context
    from acclimate.data.dataset import Dataset
    from acclimate.fine_tuning.settings import FineTune
    from acclimate.models.classifier import Classifier
    from acclimate.recipe import Recipe


def trial_flags(command: Command) -> Command:
    """The flags that bound a search."""
    for option in (
        click.option(
            "--max-minutes",
            type=click.FloatRange(0, min_open=True),
            help="For the whole search; without --trials, for the training.",
        ),
        click.option(
            "--trials", type=click.IntRange(1), help="Search: train so often, keep the best on val."
        ),
    ):
        command = option(command)
    return command


def minutes_of_training(flags: Flags) -> dict[str, float | None]:
    """The setting that --max-minutes sets when there is no search."""
    return {} if flags.get("trials") else {"fine_tune.max_minutes": flags.get("max_minutes")}


def searching(
    recipe: "Recipe", given: Sequence[str], out: Path, flags: Flags, *, own_policy: bool
) -> Callable[..., Any]:
    """What takes the place of the stage where --trials is given.

    Args:
        recipe: Of the command.
        given: The words that named model and data.
        out: Of the best model.
        flags: Of the command.
        own_policy: Whether the augmentation comes from a file, as it is.

    Returns:
        The stage's arguments to a classifier; the best recipe is written beside the trials.
    """

    def work(
        classifier: "Classifier",
        dataset: "Dataset",
        policy: "Policy",
        settings: "FineTune",
        *,
        context: "Context",
    ) -> "Classifier":
        from acclimate.api.search import write_best
        from acclimate.hyperparameter_search.fine_tune_search import Budget, search

        ranges = recipe.search
        if own_policy or "mixup" in recipe.augment.model_fields_set:
            context.progress.info("mixup: as given")
            ranges = ranges.model_copy(update={"mixup": ()})
        budget = Budget(flags["trials"], flags["max_minutes"])
        found = search(
            classifier, dataset, policy, settings, ranges,
            budget=budget, folder=search_folder(out), context=context,
        )  # fmt: skip
        write_best(found, recipe, *given)
        return found.classifier

    return work


def search_folder(out: Path) -> Path:
    """Where the trials of a search stand: beside the model it makes."""
    return out.absolute().with_name(f"{out.name}.search")


def left_by(out: Path) -> dict[str, str]:
    """What a search leaves beside the model, name to place."""
    from acclimate.hyperparameter_search.fine_tune_search import RECIPE, TABLE

    folder = search_folder(out)
    return {"recipe": str(folder / RECIPE), "trials": str(folder / TABLE)}
