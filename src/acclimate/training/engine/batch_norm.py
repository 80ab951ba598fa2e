"""What training does to a network's running statistics, and to the parts that are frozen."""

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
    """Puts a network into training mode, but for what is frozen.

    Args:
        network: Changed in place.
        freeze_batch_norm: Whether statistics stay in trained parts too.
    """
    network.train()
    eval_frozen(network)
    if freeze_batch_norm:
        for module in network.modules():
            if isinstance(module, _NORMS):
                module.eval()


@contextmanager
def explain_single_value_error() -> Iterator[None]:
    """Says in one sentence that batch norm was given a single value, as it is of a lone image.

    Yields:
        None: While a network runs in training mode.

    Raises:
        RecipeError: It was.
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
    """Puts wholly frozen parts into evaluation mode: no dropout there, statistics stay.

    Args:
        network: In training mode. Changed in place.
    """
    for module in network.modules():
        learns = [p.requires_grad for p in module.parameters()]
        if learns and not any(learns):
            module.eval()


def reestimate_batch_norm(network: nn.Module, data: TrainingImages, context: Context) -> None:
    """Batch-norm statistics of trained parts from the training images, where val gets better.

    Args:
        network: On the CPU. Changed in place.
        data: The images; they are seen as evaluation sees them.
        context: Is told what came of it.
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
