"""Balanced sampling, logit adjustment, and weights for suspicious labels."""

import numpy as np
import torch
from numpy.typing import NDArray

from acclimate.data.dataset import Dataset, Rows
from acclimate.errors import RecipeError

_SUSPICIOUS = 0.5
_LEAST_MEAN = 0.05
"""Bounds the weight of a trusted label to 20 if nearly all labels are suspected."""


def balanced_order(
    rows: Rows, labels: NDArray[np.int64], rng: np.random.Generator
) -> tuple[Rows, Rows]:
    """An epoch with equally many images of each class, in a random order.

    Of a large class a different random part is used each time. The images of a small class are
    repeated, and none is used again before all were used equally often.

    Args:
        rows: int64, (N,): rows of the training images.
        labels: int64, (N,): their class ids.
        rng: Random generator.

    Returns:
        int64, (N,): rows; and int64, (N,): how often each occurred before.
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
    """The offsets that logit adjustment adds to the logits during training.

    Source: Menon et al. 2020, arXiv 2007.07314, their loss with tau = 1. The network then
    learns the probabilities for equally frequent classes, because the real frequencies are added.

    Args:
        dataset: Data set with training images of each class.

    Returns:
        float32, (C,): the logarithm of the relative frequency of each class in train.
    """
    counts = np.asarray(list(dataset.counts("train").values()), np.float64)
    return torch.from_numpy(np.log(counts / counts.sum())).float()


def label_trust(dataset: Dataset) -> torch.Tensor:
    """The weight of each label in the loss, from the scores of `inspect`.

    Labels with a score up to 0.5 have full weight: they fit their images as well as is usual for
    the class. Above, the weight falls linearly to 0 at a score of 1. The mean over train is 1, so
    that the learning rate keeps its meaning.

    Args:
        dataset: Data set with `label_error` scores. Labels without a score have full weight.

    Returns:
        float32, (N,): a weight for each row of the table.

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
