"""`acclimate.fine_tune`, of a data set or of a DataLoader, and `acclimate.search` around it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, overload

import torch
from torch import nn

from acclimate.augmentation.policy import Policy
from acclimate.context import Context
from acclimate.data.contract import InputContract
from acclimate.data.dataset import Dataset
from acclimate.errors import RecipeError
from acclimate.files import write_atomic
from acclimate.inputs import AnyData, AnyModel, as_context, as_dataset, sized
from acclimate.models.classifier import Classifier
from acclimate.progress import Progress
from acclimate.recipe import Recipe
from acclimate.settings import from_keywords
from acclimate.training.find_settings import RECIPE, Budget, Searched
from acclimate.training.find_settings import search as _search
from acclimate.training.fine_tune import fine_tune as _fine_tune
from acclimate.training.loop import Trained
from acclimate.training.optimizers import OptimizerFactory
from acclimate.training.plainly import fine_tune_plainly, like
from acclimate.training.settings import FineTune, Search

AnyOptimizer = str | torch.optim.Optimizer | OptimizerFactory


@overload
def fine_tune(
    model: AnyModel,
    data: AnyData,
    *,
    policy: Policy | None = None,
    optimizer: AnyOptimizer = "adamw",
    device: str | None = None,
    seed: int | None = None,
    contract: InputContract | None = None,
    image_size: int | None = None,
    workspace: Path | None = None,
    progress: Progress | None = None,
    context: Context | None = None,
    **settings: Any,  # noqa: ANN401 - fields of FineTune
) -> Classifier: ...


@overload
def fine_tune(
    model: nn.Module,
    data: Iterable[Any],
    *,
    val: Iterable[Any] | None = None,
    optimizer: AnyOptimizer = "adamw",
    device: str | None = None,
    seed: int | None = None,
    workspace: Path | None = None,
    progress: Progress | None = None,
    context: Context | None = None,
    **settings: Any,  # noqa: ANN401 - fields of FineTune
) -> Trained: ...


def fine_tune(
    model: AnyModel,
    data: AnyData | Iterable[Any],
    *,
    val: Iterable[Any] | None = None,
    policy: Policy | None = None,
    optimizer: AnyOptimizer = "adamw",
    device: str | None = None,
    seed: int | None = None,
    contract: InputContract | None = None,
    image_size: int | None = None,
    workspace: Path | None = None,
    progress: Progress | None = None,
    context: Context | None = None,
    **settings: Any,
) -> Classifier | Trained:
    """A model that learnt your classes; see `acclimate.training.fine_tune.fine_tune`.

    Args:
        model: Name, folder, classifier, or a module of your own.
        data: Folder, list or data set; or, for a module whose head fits already, a DataLoader of
            (images: float (B, 3, H, W), normalized; labels: int (B,) or probabilities (B, C)).
        val: Beside a DataLoader, the same for val.
        policy: Augmentation, from `augment()`.
        optimizer: "adamw", "sgd", an optimizer over the model's parameters, or a function from
            parameter groups to one, such as a class.
        device: "auto" (as when None), "cpu", "cuda", …
        seed: Governs everything random; 0 when None.
        contract: What a module of your own expects of pixels.
        image_size: px, when not the model's own.
        workspace: Folder for checkpoints; the same call goes on from them.
        progress: Receives what is told.
        context: Says these facts of the run at once, and where and how many decoded images are
            kept; what is given beside it counts.
        **settings: Fields of `FineTune`: epochs, lr, batch_size, …

    Returns:
        The fine-tuned classifier; of a DataLoader, the trained copy in `network`, with its curve.
        Yours is unchanged.

    Raises:
        RecipeError: What is given does not go together.
    """
    here = as_context(context, seed=seed, device=device, workspace=workspace, progress=progress)
    if isinstance(optimizer, str):
        settings["optimizer"] = optimizer
    own = None if isinstance(optimizer, str) else optimizer
    if not isinstance(data, (Dataset, str, Path)):
        if not isinstance(model, nn.Module):
            raise RecipeError("a DataLoader of your own needs a torch.nn.Module.", where="model")
        _refuse("a DataLoader", policy=policy, contract=contract, image_size=image_size)
        made = from_keywords(FineTune, settings)
        return fine_tune_plainly(model, data, val, made, context=here, optimizer=own)
    _refuse("a data set, which has its own", val=val)
    if isinstance(own, torch.optim.Optimizer):
        settings = {**_said_by(own, settings), **settings}
        own = like(own)
    start = sized(model, contract, image_size)
    dataset = as_dataset(data, context=here)
    made = from_keywords(FineTune, settings)
    return _fine_tune(start, dataset, policy, made, context=here, optimizer=own)


def search(
    model: AnyModel,
    data: AnyData,
    folder: Path,
    *,
    trials: int,
    minutes: float | None = None,
    policy: Policy | None = None,
    ranges: Mapping[str, Any] | None = None,
    contract: InputContract | None = None,
    image_size: int | None = None,
    context: Context | None = None,
    **settings: Any,  # noqa: ANN401 - fields of FineTune
) -> Searched:
    """Fine-tunes with other settings again and again; see `acclimate.training.find_settings`.

    Args:
        model: As for `fine_tune`.
        data: Folder, list or data set; its val split chooses.
        folder: For the trials and the best classifier; the same call goes on from them.
        trials: How often the whole network is trained, those of an earlier call counted.
        minutes: For all of it.
        policy: Augmentation, from `augment()`.
        ranges: Fields of `Search`, in place of its own ranges.
        contract: What a module of your own expects of pixels.
        image_size: px, when not the model's own.
        context: Seed, device, progress.
        **settings: Fields of `FineTune`; what is given is the same in all trials.

    Returns:
        The best trial with its classifier and settings, and all trials.
    """
    here = as_context(context)
    start = sized(model, contract, image_size)
    return _search(
        start,
        as_dataset(data, context=here),
        policy,
        from_keywords(FineTune, settings),
        from_keywords(Search, ranges or {}),
        budget=Budget(trials, minutes),
        folder=Path(folder),
        context=here,
    )


def write_best(found: Searched, recipe: Recipe, model: str, data: str) -> None:
    """Writes the recipe of a search's best trial, for `fine-tune --recipe` and for `run`.

    Args:
        found: What the search left; the recipe goes into its folder.
        recipe: Of the search.
        model: Name or folder that it started from.
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


def _refuse(data: str, **given: object) -> None:
    """What does not go with this kind of data."""
    for name, value in given.items():
        if value is not None:
            raise RecipeError(f"{name} does not apply to {data}.", where=name)


def _said_by(optimizer: torch.optim.Optimizer, settings: dict[str, Any]) -> dict[str, float]:
    """Rate and weight decay of an optimizer, where they are not given beside it."""
    group = optimizer.param_groups[0]
    said = {"weight_decay": float(group.get("weight_decay", 0.0))}
    return said if {"lr", "learning_rate"} & set(settings) else {**said, "lr": float(group["lr"])}
