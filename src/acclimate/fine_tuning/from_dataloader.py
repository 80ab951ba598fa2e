"""Fine-tuning as it is written by hand: a module, an optimizer, a DataLoader."""

import copy
import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from acclimate.context import Context
from acclimate.errors import RecipeError
from acclimate.fine_tuning.settings import FineTune
from acclimate.training.batches.user_loader import LoaderBatches
from acclimate.training.engine.loop import TrainResult
from acclimate.training.engine.step import LossInputs
from acclimate.training.optim.losses import LOSSES
from acclimate.training.optim.optimizers import Groups, OptimizerFactory
from acclimate.training.session import Session
from acclimate.training.settings import Training

_APPLY = frozenset(
    {*Training.model_fields, "loss", "label_smoothing"}
    - {"batch_size", "class_statistics", "augment_on"}
)
"""What means something without a table of images."""


def fit_dataloader(
    network: nn.Module,
    loader: Iterable[Any],
    val: Iterable[Any] | None,
    settings: FineTune,
    *,
    context: Context,
    optimizer: torch.optim.Optimizer | OptimizerFactory | None = None,
) -> TrainResult:
    """Trains a copy of a module on batches as they come; the head is left as it is.

    Args:
        network: Takes float32 (B, 3, H, W), returns logits (B, C). Unchanged.
        loader: Pairs of images, float (B, 3, H, W), normalized, and labels, int (B,) or
            probabilities (B, C); with a length.
        val: The same; without it the last epoch is kept.
        settings: Of a training; the size of batches is the loader's.
        context: Seed, device, workspace, progress.
        optimizer: An optimizer over the network's parameters, whose class, options and groups are
            taken, with what it leaves out frozen; or parameter groups to an optimizer.

    Returns:
        The trained copy, its curve, its best epoch.

    Raises:
        DataError: The loader's batches are not what they must be.
        ModelFileError: The network cannot be run on them.
        RecipeError: A setting needs a data set, or the training diverges.
    """
    odd = sorted(settings.model_fields_set - _APPLY)
    if odd:
        raise RecipeError(
            f"{odd[0]} does not apply to a DataLoader of your own.",
            where=odd[0],
            hint="Leave it out, or give a folder or a list of images as data.",
        )
    if settings.batch_norm == "reestimate":
        raise RecipeError(
            "statistics cannot be measured anew on a DataLoader of your own, whose images are not "
            "to be had as evaluation sees them.",
            where="batch_norm",
            hint="Leave it at frozen, or give train.",
        )
    if settings.learning_rate == "find":
        raise RecipeError(
            "a rate cannot be found on a DataLoader of your own.",
            where="learning_rate",
            hint="Give a number, or leave it at auto.",
        )
    source = LoaderBatches(network, loader, val, context.seed)
    numbers: dict[str, Any] = {"batch_size": min(source.batch_size, source.images)}
    ours = copy.deepcopy(network)
    if isinstance(optimizer, torch.optim.Optimizer):
        given = settings.learning_rate
        groups = moved(optimizer, network, ours, None if isinstance(given, str) else given)
        numbers["learning_rate"] = groups[0]["peak"]
        optimizer = _another(optimizer, groups)
    settings = settings.model_copy(update=numbers)
    session = Session("fine_tune", settings, source.images, context)
    loss = LOSSES[settings.loss]

    def objective(logits: torch.Tensor, loss_inputs: LossInputs) -> torch.Tensor:
        return loss(logits, loss_inputs.targets, settings.label_smoothing)

    return session.fit(ours, source, objective, optimizer=optimizer).result


def moved(
    optimizer: torch.optim.Optimizer, theirs: nn.Module, ours: nn.Module, rate: float | None
) -> Groups:
    """An optimizer's groups over the same parameters of a copy.

    Args:
        optimizer: Over parameters of `theirs`. Unchanged.
        theirs: The user's network.
        ours: A copy of it; what the optimizer leaves out is frozen in it.
        rate: In place of the groups' own; None keeps those.

    Returns:
        The groups, each with its `peak` rate.

    Raises:
        RecipeError: The optimizer holds parameters of another network.
    """
    names = {id(p): name for name, p in theirs.named_parameters()}
    copies = dict(ours.named_parameters())
    groups: Groups = []
    for group in optimizer.param_groups:
        if not all(id(p) in names for p in group["params"]):
            raise RecipeError(
                f"{type(optimizer).__name__} is over parameters that are not the model's.",
                where="optimizer",
                hint="Make it of model.parameters(), of the very model that you give.",
            )
        peak = float(group["lr"] if rate is None else rate)
        params = [copies[names[id(p)]] for p in group["params"]]
        groups.append({**group, "params": params, "lr": peak, "peak": peak})
    held = {id(p) for group in groups for p in group["params"]}
    for parameter in copies.values():
        parameter.requires_grad_(parameter.requires_grad and id(parameter) in held)
    return groups


def like(optimizer: torch.optim.Optimizer) -> OptimizerFactory:
    """What makes an optimizer of the same class and options over other groups.

    Args:
        optimizer: Its options are taken, but for the rate, which groups say themselves.

    Returns:
        Parameter groups to an optimizer.
    """

    def factory(groups: Groups) -> torch.optim.Optimizer:
        return _another(optimizer, groups)(groups)

    factory.__qualname__ = type(optimizer).__qualname__
    return factory


def _another(optimizer: torch.optim.Optimizer, groups: Groups) -> OptimizerFactory:
    """What makes one of the same class over these groups, whatever it is given."""
    kind = type(optimizer)
    known = inspect.signature(kind).parameters  # `defaults` may hold more than that
    options = {name: value for name, value in optimizer.defaults.items() if name in known}
    return lambda _: kind(groups, **options)
