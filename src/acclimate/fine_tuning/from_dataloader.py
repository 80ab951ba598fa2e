"""Fine-tunes the user's own module on the user's own DataLoader."""

import copy
import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from acclimate.context import Context
from acclimate.errors import RecipeError
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.outputs import check_training, return_everything, return_logits
from acclimate.training.batches.user_loader import LoaderBatches
from acclimate.training.engine.loop import TrainResult
from acclimate.training.engine.step import LossInputs
from acclimate.training.optim.losses import LOSSES
from acclimate.training.optim.optimizers import Groups, OptimizerFactory
from acclimate.training.session import Session
from acclimate.training.settings import Training

_SUPPORTED = frozenset(
    {*Training.model_fields, "loss", "label_smoothing"}
    - {"batch_size", "class_statistics", "augment_on"}
)
"""Settings that can be used without a data set."""


def fit_dataloader(
    network: nn.Module,
    loader: Iterable[Any],
    val: Iterable[Any] | None,
    settings: FineTune,
    *,
    context: Context,
    optimizer: torch.optim.Optimizer | OptimizerFactory | None = None,
) -> TrainResult:
    """Trains a copy of a module on the batches of a DataLoader; the head keeps its shape.

    Args:
        network: Takes float32 (B, 3, H, W), returns logits (B, C), alone or in a tuple, mapping
            or dataclass. Auxiliary logits, as of GoogLeNet and Inception v3, take part in the
            loss. Unchanged.
        loader: Pairs of images, float (B, 3, H, W), normalized, and labels, int (B,) or
            probabilities (B, C); it must have a length.
        val: The same for val; without it the last epoch is kept.
        settings: Settings of fine-tuning; the batch size is the loader's.
        context: Seed, device, workspace, progress.
        optimizer: An optimizer over the network's parameters: its class, options and groups are
            used, and parameters outside of it are frozen. Or a function from parameter groups to
            an optimizer.

    Returns:
        The trained copy, its curve, its best epoch.

    Raises:
        DataError: The batches do not have the expected form.
        ModelFileError: The network cannot be run on them.
        RecipeError: A setting needs a data set, or the training diverges.
    """
    odd = sorted(settings.model_fields_set - _SUPPORTED)
    if odd:
        raise RecipeError(
            f"{odd[0]} does not apply to a DataLoader of your own.",
            where=odd[0],
            hint="Leave it out, or give a folder or a list of images as data.",
        )
    if settings.batch_norm == "reestimate":
        raise RecipeError(
            "batch_norm=reestimate needs images without augmentation, which a DataLoader does not "
            "give.",
            where="batch_norm",
            hint="Leave it at frozen, or give train.",
        )
    if settings.learning_rate == "find":
        raise RecipeError(
            "learning_rate=find does not work with a DataLoader of your own.",
            where="learning_rate",
            hint="Give a number, or leave it at auto.",
        )
    source = LoaderBatches(network, loader, val, context.seed)
    numbers: dict[str, Any] = {"batch_size": min(source.batch_size, source.images)}
    ours = copy.deepcopy(network)
    return_logits(ours, source.example)
    check_training(ours, source.example)
    if isinstance(optimizer, torch.optim.Optimizer):
        given = settings.learning_rate
        groups = groups_for_copy(
            optimizer, network, ours, None if isinstance(given, str) else given
        )
        numbers["learning_rate"] = groups[0]["peak"]
        optimizer = _of_same_class(optimizer, groups)
    settings = settings.model_copy(update=numbers)
    session = Session("fine_tune", settings, source.images, context)
    loss = LOSSES[settings.loss]

    def objective(logits: torch.Tensor, loss_inputs: LossInputs) -> torch.Tensor:
        return loss(logits, loss_inputs.targets, settings.label_smoothing)

    result = session.fit(ours, source, objective, optimizer=optimizer).result
    return_everything(result.network)
    return result


def groups_for_copy(
    optimizer: torch.optim.Optimizer, theirs: nn.Module, ours: nn.Module, rate: float | None
) -> Groups:
    """The parameter groups of an optimizer, over the parameters of a copy of the network.

    Args:
        optimizer: Over parameters of `theirs`. Unchanged.
        theirs: The user's network.
        ours: A copy of it, in which parameters outside of the optimizer are frozen.
        rate: Learning rate of all groups; None keeps their own.

    Returns:
        The groups, each with its peak learning rate in `peak`.

    Raises:
        RecipeError: The optimizer holds parameters of another network.
    """
    names = {id(p): name for name, p in theirs.named_parameters()}
    copies = dict(ours.named_parameters())
    groups: Groups = []
    for group in optimizer.param_groups:
        if not all(id(p) in names for p in group["params"]):
            raise RecipeError(
                f"{type(optimizer).__name__} holds parameters of another model.",
                where="optimizer",
                hint="Create it from model.parameters() of the model that you pass.",
            )
        peak = float(group["lr"] if rate is None else rate)
        params = [copies[names[id(p)]] for p in group["params"]]
        groups.append({**group, "params": params, "lr": peak, "peak": peak})
    held = {id(p) for group in groups for p in group["params"]}
    for parameter in copies.values():
        parameter.requires_grad_(parameter.requires_grad and id(parameter) in held)
    return groups


def factory_like(optimizer: torch.optim.Optimizer) -> OptimizerFactory:
    """A function that creates an optimizer of the same class and options over other groups.

    Args:
        optimizer: Its options are used, except for the learning rate, which the groups hold.

    Returns:
        A function from parameter groups to an optimizer.
    """

    def factory(groups: Groups) -> torch.optim.Optimizer:
        return _of_same_class(optimizer, groups)(groups)

    factory.__qualname__ = type(optimizer).__qualname__
    return factory


def _of_same_class(optimizer: torch.optim.Optimizer, groups: Groups) -> OptimizerFactory:
    """A function that creates an optimizer of the same class over these groups."""
    kind = type(optimizer)
    known = inspect.signature(kind).parameters  # `defaults` may hold more than that
    options = {name: value for name, value in optimizer.defaults.items() if name in known}
    return lambda _: kind(groups, **options)
