"""Rare classes, and labels that are probably wrong: what counts how much."""

import numpy as np
import torch
from numpy.typing import NDArray

from acclimate.data.dataset import Dataset, Rows
from acclimate.errors import RecipeError

_SUSPICIOUS = 0.5
_LEAST_MEAN = 0.05
"""Where nearly all labels are suspected, none of the others may count more than 20 times."""


def balanced_order(
    rows: Rows, labels: NDArray[np.int64], rng: np.random.Generator
) -> tuple[Rows, Rows]:
    """As many images as there are, the same number of each class, in a random order.

    A large class gives a part of its images, another one each time; of a small one each image comes
    as often as any other, or once more. Nothing is drawn twice before all were drawn once.

    Args:
        rows: int64, (N,): the training images.
        labels: int64, (N,): their class ids.
        rng: Draws which, and the order.

    Returns:
        int64, (N,): rows; and int64, (N,): how often each came before.
    """
    there = rng.permutation(np.unique(labels))
    quotas = np.full(len(there), len(rows) // len(there))
    quotas[: len(rows) % len(there)] += 1
    drawn, times = [], []
    for label, quota in zip(there, quotas, strict=True):
        own = rows[labels == label]
        rounds = -(-int(quota) // len(own))
        drawn.append(np.concatenate([rng.permutation(own) for _ in range(rounds)])[:quota])
        times.append(np.repeat(np.arange(rounds), len(own))[:quota])
    order = rng.permutation(len(rows))
    return np.concatenate(drawn)[order], np.concatenate(times)[order]


def log_shares(dataset: Dataset) -> torch.Tensor:
    """What logit adjustment adds to the logits in training.

    Source: Menon et al. 2020, arXiv 2007.07314, their loss with tau = 1. The network then learns
    what is true of classes of equal shares, since their real ones are added for it.

    Args:
        dataset: Each class with training images.

    Returns:
        float32, (C,): the logarithm of each class's share of the training images.
    """
    counts = np.asarray(list(dataset.counts("train").values()), np.float64)
    return torch.from_numpy(np.log(counts / counts.sum())).float()


def label_trust(dataset: Dataset) -> torch.Tensor:
    """How much each label counts, by the scores of `inspect`.

    Up to a score of a half a label has its full weight: it suits its image about as labels of its
    class do. From there the weight falls in a straight line to 0 at a score of 1. The mean over
    train is 1, so that the learning rate keeps its meaning.

    Args:
        dataset: With `label_error`; a label without a score is believed.

    Returns:
        float32, (N,), a weight for each row of the table.

    Raises:
        RecipeError: No label of train has a score.
    """
    column = dataset.table["label_error"].to_numpy(zero_copy_only=False)
    scores = np.asarray(column, np.float64)
    rows = dataset.rows("train")
    if np.isnan(scores[rows]).all():
        raise RecipeError(
            "no training label has a score of inspect.",
            where="label_weights",
            hint="Run inspect first, with 'label_errors' among inspect.checks.",
        )
    weights = np.minimum(1.0, (1 - np.nan_to_num(scores, nan=0.0)) / (1 - _SUSPICIOUS))
    return torch.from_numpy(weights / max(float(weights[rows].mean()), _LEAST_MEAN)).float()
