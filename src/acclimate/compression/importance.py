"""Importance of channels, by which pruning ranks them."""

from collections.abc import Callable

import torch
import torch_pruning as tp
from torch import nn
from torch.nn import functional

from acclimate.data.dataset import Dataset, Rows
from acclimate.data.images.batches import ordered_batches
from acclimate.data.images.contract import InputContract
from acclimate.models.runtime import Normalizer

Importance = Callable[[nn.Module, InputContract, Dataset, Rows], tp.importance.Importance]


def magnitude(
    network: nn.Module, contract: InputContract, dataset: Dataset, rows: Rows
) -> tp.importance.Importance:
    """Norm of the weights of all coupled layers (Fang et al. 2023, arXiv 2301.12900)."""
    return tp.importance.GroupMagnitudeImportance(p=2)


def taylor(
    network: nn.Module, contract: InputContract, dataset: Dataset, rows: Rows
) -> tp.importance.Importance:
    """First-order change of the loss without the channel (Molchanov et al. 2019, 1906.10771).

    Leaves the gradients of the mean loss in the network.

    Args:
        network: On the CPU, in evaluation mode.
        contract: Input contract of the network.
        dataset: Its labels are classes of the network.
        rows: Images over which the loss is averaged.

    Returns:
        An importance for Torch-Pruning, called for each group of channels.
    """
    network.zero_grad()
    to_input = Normalizer(contract, torch.device("cpu"))
    for batch in ordered_batches(dataset, rows, contract, batch_size=32):
        logits = network(to_input(torch.from_numpy(batch.images)))
        targets = torch.from_numpy(batch.targets)
        loss = functional.cross_entropy(logits, targets, reduction="sum") / len(rows)
        loss.backward()  # type: ignore[no-untyped-call]
    return tp.importance.GroupTaylorImportance()


IMPORTANCES: dict[str, Importance] = {"magnitude": magnitude, "taylor": taylor}
"""(network, contract, data, rows) to an importance for Torch-Pruning."""
