"""`acclimate.fine_tune`, of a data set or of a DataLoader, and `acclimate.search` around it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, overload

import torch
from torch import nn

from acclimate.api.inputs import AnyData, as_context, as_dataset
from acclimate.augmentation.policy import Policy
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.data.images.contract import InputContract
from acclimate.errors import RecipeError
from acclimate.fine_tuning.fine_tune import fine_tune as _fine_tune
from acclimate.fine_tuning.from_dataloader import factory_like, fit_dataloader
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.classifier import Classifier
from acclimate.progress import Progress
from acclimate.registry.resolve import AnyModel, resized_classifier
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
) -> TrainResult: ...


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
) -> Classifier | TrainResult:
    """A model that learnt your classes; see `acclimate.fine_tuning.fine_tune.fine_tune`.

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
        return fit_dataloader(model, data, val, made, context=here, optimizer=own)
    _refuse("a data set, which has its own", val=val)
    if isinstance(own, torch.optim.Optimizer):
        settings = {**_said_by(own, settings), **settings}
        own = factory_like(own)
    start = resized_classifier(model, contract, image_size)
    dataset = as_dataset(data, context=here)
    made = from_keywords(FineTune, settings)
    return _fine_tune(start, dataset, policy, made, context=here, optimizer=own)


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
