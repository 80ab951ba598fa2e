"""Batch-norm statistics measured anew, and kept only where that is better."""

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
    """Measures the statistics anew, and keeps them only where that lowers the loss.

    After channels were taken out or weights changed, other means and variances may come out. But
    the old ones were measured on many more images: they stay where the new ones are no better.

    Args:
        network: On the CPU; changed in place, left in evaluation mode.
        contract: What it expects.
        pictures: The images as evaluation sees them; None decodes them.
        dataset: The table.
        statistics_rows: Rows whose statistics are taken.
        loss_rows: Rows whose loss decides.
        norms: The layers; all two-dimensional ones when None.

    Returns:
        The mean cross-entropy before, and with the new statistics.
    """
    seen = contract, pictures, dataset
    before = _loss(network, *seen, loss_rows)
    kept = copy.deepcopy(network.state_dict())
    found = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    chosen = found if norms is None else [m for m in norms if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in chosen]
    for module in chosen:
        module.reset_running_stats()
        module.momentum = None  # a plain average over all batches
        module.train()
    to_input = Normalizer(contract, torch.device("cpu"))
    with torch.no_grad():
        for batch in ordered_batches(
            dataset, statistics_rows, contract, batch_size=64, cached_images=pictures
        ):
            if len(batch.rows) > 1:  # a single image may have a single value a channel
                network(to_input(torch.from_numpy(batch.images)))
    for module, momentum in zip(chosen, momenta, strict=True):
        module.momentum = momentum
    network.eval()
    after = _loss(network, *seen, loss_rows)
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
