"""The flags that turn `fine-tune` into a search, and the files that a search writes."""

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
            help="Time limit of the search; without --trials, of the training.",
        ),
        click.option(
            "--trials",
            type=click.IntRange(1),
            help="Search settings: train this often and keep the model that is best on val.",
        ),
    ):
        command = option(command)
    return command


def minutes_of_training(flags: Flags) -> dict[str, float | None]:
    """The setting that --max-minutes stands for if there is no search."""
    return {} if flags.get("trials") else {"fine_tune.max_minutes": flags.get("max_minutes")}


def searching(
    recipe: "Recipe", given: Sequence[str], out: Path, flags: Flags, *, own_policy: bool
) -> Callable[..., Any]:
    """The function that replaces the stage if --trials is given.

    Args:
        recipe: The recipe of the command.
        given: The arguments that name model and data.
        out: The path of the best model.
        flags: The flags of the command.
        own_policy: Whether the policy comes from a file.

    Returns:
        A function with the stage's arguments that returns the best classifier and writes the best
        recipe beside the trials.
    """

    def search_stage(
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

    return search_stage


def search_folder(out: Path) -> Path:
    """The folder of the trials of a search, beside the model that it writes."""
    return out.absolute().with_name(f"{out.name}.search")


def left_by(out: Path) -> dict[str, str]:
    """What a search writes beside the model, name to path."""
    from acclimate.hyperparameter_search.fine_tune_search import RECIPE, TABLE

    folder = search_folder(out)
    return {"recipe": str(folder / RECIPE), "trials": str(folder / TABLE)}
