"""`acclimate.search`: hyperparameter search around fine-tuning."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acclimate.api.inputs import AnyData, as_context, as_dataset, as_model, as_policy
from acclimate.arguments import checked
from acclimate.augmentation.policy import Policy
from acclimate.context import Context
from acclimate.data.images.contract import InputContract
from acclimate.files import AnyPath, write_atomic
from acclimate.fine_tuning.settings import FineTune
from acclimate.hyperparameter_search.fine_tune_search import RECIPE, Budget, SearchResult
from acclimate.hyperparameter_search.fine_tune_search import search as _search
from acclimate.hyperparameter_search.settings import Search
from acclimate.recipe import Recipe
from acclimate.registry.resolve import AnyModel
from acclimate.settings import from_keywords


@checked
def search(
    model: AnyModel,
    data: AnyData,
    folder: AnyPath,
    *,
    trials: int,
    max_minutes: float | None = None,
    policy: Policy | None = None,
    ranges: Mapping[str, Any] | None = None,
    weights: AnyPath | None = None,
    contract: InputContract | None = None,
    image_size: int | None = None,
    allow_outside: bool = False,
    device: str | None = None,
    seed: int | None = None,
    context: Context | None = None,
    **settings: Any,  # noqa: ANN401 - fields of FineTune
) -> SearchResult:
    """Fine-tunes with different settings and keeps the model that is best on val.

    See `acclimate.hyperparameter_search.fine_tune_search`.

    Args:
        model: As for `fine_tune`.
        data: Folder, list or data set; trials are compared on its val split.
        folder: For the trials and the best classifier; the same call resumes from them.
        trials: How often the whole network is trained, including the trials of earlier calls.
        max_minutes: Time limit of the whole search.
        policy: From `augment()`; without one the augmentations are tested on the data.
        ranges: Fields of `Search`, in place of the default ranges.
        weights: A file with weights of the architecture that `model` names.
        contract: Input size and normalization of a module of your own.
        image_size: Input size in px; None is the model's own.
        allow_outside: Whether links and listed paths may lead out of the data's folder.
        device: "auto", "cpu", "cuda", …; None is the context's.
        seed: Random seed; None is the context's.
        context: Seed, device, progress.
        **settings: Fields of `FineTune` that are the same in all trials.

    Returns:
        The best trial with its classifier and settings, and all trials.

    Example:
        >>> policy = acclimate.augment(policy="basic")
        >>> found = acclimate.search(
        ...     "leaf.model", "photos/", "trials", trials=1, policy=policy, epochs=1
        ... )
        >>> found.classifier.classes
        ('one', 'seven')
    """
    here = as_context(context, device=device, seed=seed)
    made = from_keywords(FineTune, settings, beside=("image_size",))
    # MixUp is a part of the policy: one that is given is the same in all trials.
    fixed = {} if policy is None else {"mixup": ()}
    tried = from_keywords(Search, {**fixed, **(ranges or {})})
    start = as_model(model, weights=weights, contract=contract, image_size=image_size, context=here)
    dataset = as_dataset(data, allow_outside=allow_outside, context=here)
    policy = as_policy(policy, start, dataset, context=here)
    budget = Budget(trials, max_minutes)
    return _search(
        start, dataset, policy, made, tried, budget=budget, folder=Path(folder), context=here
    )


def write_best(found: SearchResult, recipe: Recipe, model: str, data: str) -> None:
    """Writes the recipe of a search's best trial, for `fine-tune --recipe` and for `run`.

    Args:
        found: The result of the search; the recipe goes into its folder.
        recipe: The recipe of the search.
        model: Name or folder of the model that it started from.
        data: Folder, list or saved data set.
    """
    place = str(Path(model).absolute()) if Path(model).exists() else model
    best = recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"path": Path(data).absolute()}),
            "model": recipe.model.model_copy(update={"name": place}),
            "augment": recipe.augment.model_copy(update={"mixup": found.policy.mixup}),
            "fine_tune": found.settings,
        }
    )
    write_atomic(found.folder / RECIPE, best.to_yaml())
