"""Batch-norm statistics and frozen layers during training."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from acclimate.context import Context
from acclimate.errors import RecipeError
from acclimate.models.batch_norm import reestimate
from acclimate.models.structure import blocks
from acclimate.training.batches.training_images import TrainingImages

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def set_mode(network: nn.Module, *, freeze_batch_norm: bool) -> None:
    """Sets a network to training mode, except for its frozen layers.

    Args:
        network: Changed in place.
        freeze_batch_norm: Whether the statistics of trained layers stay as they are too.
    """
    network.train()
    eval_frozen(network)
    if freeze_batch_norm:
        for module in network.modules():
            if isinstance(module, _NORMS):
                module.eval()


@contextmanager
def explain_single_value_error() -> Iterator[None]:
    """Explains the error of batch norm in training mode on a single image.

    Yields:
        None: Nothing.

    Raises:
        RecipeError: A batch has a single image.
    """
    try:
        yield
    except ValueError as error:
        if not str(error).startswith("Expected more than 1 value per channel"):
            raise
        raise RecipeError(
            "batch_norm: train needs at least two images per forward pass, and a batch has one.",
            where="batch_norm",
            hint="Leave it at frozen, choose another batch size, or drop the last batch.",
        ) from error


def eval_frozen(network: nn.Module) -> None:
    """Sets fully frozen modules to evaluation mode: no dropout, and fixed statistics.

    Args:
        network: In training mode. Changed in place.
    """
    for module in network.modules():
        learns = [p.requires_grad for p in module.parameters()]
        if learns and not any(learns):
            module.eval()


def reestimate_batch_norm(network: nn.Module, data: TrainingImages, context: Context) -> None:
    """Computes the batch-norm statistics of trained layers again, and keeps them if val improves.

    Args:
        network: On the CPU. Changed in place.
        data: The images, which are used without augmentation.
        context: Progress, which logs the result.
    """
    trained = [m for _, m in blocks(network) if any(p.requires_grad for p in m.parameters())]
    rows = data.dataset.rows("train")
    before, after = reestimate(
        network,
        data.contract,
        data.eval_pictures,
        data.dataset,
        statistics_rows=rows,
        loss_rows=data.dataset.rows("val") if len(data.dataset.rows("val")) else rows,
        norms=[norm for module in trained for norm in module.modules()],
    )
    kept = "kept" if after < before else "not kept"
    context.progress.info(f"batch norm re-estimated: loss {before:.3f} to {after:.3f}, {kept}")
