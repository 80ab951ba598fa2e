"""`acclimate.fine_tune`, on a data set or on a DataLoader."""

import os
from collections.abc import Iterable
from typing import Any, cast, overload

import torch
from torch import nn

from acclimate.api.inputs import AnyData, as_context, as_dataset, as_model, as_policy
from acclimate.arguments import checked, kind_of
from acclimate.augmentation.policy import Policy
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.data.images.contract import InputContract
from acclimate.data.sources.in_memory import WANTED, is_listing
from acclimate.errors import RecipeError, WrongType
from acclimate.files import AnyPath
from acclimate.fine_tuning.fine_tune import fine_tune as _fine_tune
from acclimate.fine_tuning.from_dataloader import factory_like, fit_dataloader
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.classifier import Classifier
from acclimate.progress import Progress
from acclimate.registry.resolve import AnyModel
from acclimate.settings import from_keywords
from acclimate.training.engine.loop import TrainResult
from acclimate.training.optim.optimizers import OptimizerFactory

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
    weights: AnyPath | None = None,
    contract: InputContract | None = None,
    image_size: int | None = None,
    allow_outside: bool = False,
    workspace: AnyPath | None = None,
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
    workspace: AnyPath | None = None,
    progress: Progress | None = None,
    context: Context | None = None,
    **settings: Any,  # noqa: ANN401 - fields of FineTune
) -> TrainResult: ...


@checked
def fine_tune(
    model: AnyModel,
    data: AnyData | Iterable[Any],
    *,
    val: Iterable[Any] | None = None,
    policy: Policy | None = None,
    optimizer: AnyOptimizer = "adamw",
    device: str | None = None,
    seed: int | None = None,
    weights: AnyPath | None = None,
    contract: InputContract | None = None,
    image_size: int | None = None,
    allow_outside: bool = False,
    workspace: AnyPath | None = None,
    progress: Progress | None = None,
    context: Context | None = None,
    **settings: Any,
) -> Classifier | TrainResult:
    """Fine-tunes a model on your images; see `acclimate.fine_tuning.fine_tune.fine_tune`.

    Args:
        model: Name, folder, classifier, or a module of your own.
        data: Folder, list or data set, as for `clean`; or, for a module whose head fits already, a
            DataLoader of (images: float (B, 3, H, W), normalized; labels: int (B,) or
            probabilities (B, C)).
        val: With a DataLoader, another one of validation images.
        policy: From `augment()`; without one the augmentations are tested on the data.
        optimizer: "adamw", "sgd", an optimizer over the model's parameters, or a function from
            parameter groups to one, such as a class.
        device: "auto" (as when None), "cpu", "cuda", …
        seed: Random seed; 0 when None.
        weights: A file with weights of the architecture that `model` names.
        contract: Input size and normalization of a module of your own.
        image_size: Input size in px; None is the model's own.
        allow_outside: Whether links and listed paths may lead out of the data's folder.
        workspace: Folder for checkpoints; the same call resumes from them.
        progress: Receives messages and progress.
        context: Seed, device, workspace and progress in one value, and the cache of decoded
            images; the arguments above take precedence.
        **settings: Fields of `FineTune`: epochs, lr, batch_size, …

    Returns:
        The fine-tuned classifier; with a DataLoader, the trained copy as `network`, with its
        curve. The given model is unchanged.

    Raises:
        RecipeError: Some of the arguments do not fit together.

    Example:
        >>> policy = acclimate.augment(policy="basic")
        >>> model = acclimate.fine_tune("leaf.model", "photos/", policy=policy, epochs=1, lr=1e-3)
        >>> model.classes
        ('one', 'seven')
    """
    here = as_context(context, seed=seed, device=device, workspace=workspace, progress=progress)
    if isinstance(optimizer, str):
        settings["optimizer"] = optimizer
    own = None if isinstance(optimizer, str) else optimizer
    if not isinstance(data, (Dataset, str, os.PathLike)) and not is_listing(data):
        if not isinstance(data, Iterable):
            raise WrongType(f"is {kind_of(data)}. {WANTED}", where="data")
        if not isinstance(model, nn.Module):
            raise RecipeError("a DataLoader of your own needs a torch.nn.Module.", where="model")
        _refuse(
            "a DataLoader",
            policy=policy, contract=contract, image_size=image_size, weights=weights,
        )  # fmt: skip
        made = from_keywords(FineTune, settings)
        loader = cast("Iterable[Any]", data)
        return fit_dataloader(model, loader, val, made, context=here, optimizer=own)
    _refuse("a data set, which has its own", val=val)
    if isinstance(own, torch.optim.Optimizer):
        settings = {**_rates_of(own, settings), **settings}
        own = factory_like(own)
    made = from_keywords(FineTune, settings, beside=("image_size",))
    start = as_model(model, weights=weights, contract=contract, image_size=image_size, context=here)
    dataset = as_dataset(cast("AnyData", data), allow_outside=allow_outside, context=here)
    policy = as_policy(policy, start, dataset, context=here)
    return _fine_tune(start, dataset, policy, made, context=here, optimizer=own)


def _refuse(data: str, **given: object) -> None:
    """Raises an error for arguments that do not apply to this kind of data."""
    for name, value in given.items():
        if value is not None:
            raise RecipeError(f"{name} does not apply to {data}.", where=name)


def _rates_of(optimizer: torch.optim.Optimizer, settings: dict[str, Any]) -> dict[str, float]:
    """Learning rate and weight decay of an optimizer, unless they are given as settings."""
    group = optimizer.param_groups[0]
    rates = {"weight_decay": float(group.get("weight_decay", 0.0))}
    return rates if {"lr", "learning_rate"} & set(settings) else {**rates, "lr": float(group["lr"])}
