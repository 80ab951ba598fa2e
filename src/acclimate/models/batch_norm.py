"""Re-estimates batch-norm statistics, and keeps them only if the loss gets lower."""

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from acclimate.data.dataset import Dataset, Rows
from acclimate.data.images.batches import ordered_batches
from acclimate.data.images.cached_images import CachedImages
from acclimate.data.images.contract import InputContract
from acclimate.models.runtime import Normalizer


def reestimate(
    network: nn.Module,
    contract: InputContract,
    pictures: CachedImages | None,
    dataset: Dataset,
    *,
    statistics_rows: Rows,
    loss_rows: Rows,
    norms: Sequence[nn.Module] | None = None,
) -> tuple[float, float]:
    """Re-estimates the running statistics, and keeps them only if that lowers the loss.

    After pruning or training, the means and variances may have changed. The old statistics were
    measured on many more images, though, so they stay unless the new ones are better.

    Args:
        network: On the CPU; changed in place and left in evaluation mode.
        contract: Its input contract.
        pictures: Decoded images, prepared as for evaluation; None to decode them.
        dataset: The data set.
        statistics_rows: Images to measure the statistics on.
        loss_rows: Images to compare the loss on.
        norms: The layers to re-estimate; every `BatchNorm2d` if None.

    Returns:
        The mean cross-entropy with the old statistics and with the new ones.
    """
    inputs = contract, pictures, dataset
    before = _loss(network, *inputs, loss_rows)
    kept = copy.deepcopy(network.state_dict())
    found = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    chosen = found if norms is None else [m for m in norms if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in chosen]
    for module in chosen:
        module.reset_running_stats()
        module.momentum = None  # a cumulative average over all batches
        module.train()
    to_input = Normalizer(contract, torch.device("cpu"))
    with torch.no_grad():
        for batch in ordered_batches(
            dataset, statistics_rows, contract, batch_size=64, cached_images=pictures
        ):
            if len(batch.rows) > 1:  # one image may have a single value per channel
                network(to_input(torch.from_numpy(batch.images)))
    for module, momentum in zip(chosen, momenta, strict=True):
        module.momentum = momentum
    network.eval()
    after = _loss(network, *inputs, loss_rows)
    if not after < before:
        network.load_state_dict(kept)
    return before, after


def _loss(
    network: nn.Module,
    contract: InputContract,
    pictures: CachedImages | None,
    dataset: Dataset,
    rows: Rows,
) -> float:
    """Mean cross-entropy of some images."""
    to_input, total = Normalizer(contract, torch.device("cpu")), 0.0
    with torch.inference_mode():
        for batch in ordered_batches(dataset, rows, contract, cached_images=pictures):
            logits = network(to_input(torch.from_numpy(batch.images)))
            targets = torch.from_numpy(batch.targets)
            total += float(functional.cross_entropy(logits, targets, reduction="sum"))
    return total / len(rows)
