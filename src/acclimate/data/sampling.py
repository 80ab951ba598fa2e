"""Draws a sample of images, evenly over the classes."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from acclimate.data.dataset import Dataset, Rows


def balanced_sample(
    dataset: "Dataset", rows: "Rows", most: int, rng: np.random.Generator
) -> "Rows":
    """Draws rows, as evenly over the classes as their numbers allow.

    Args:
        dataset: With labels.
        rows: To choose from.
        most: The largest number of rows.
        rng: For the random choice.

    Returns:
        int64, in the order of `rows`; all of them if there are not more than `most`.
    """
    if len(rows) <= most:
        return rows
    order = rng.permutation(len(rows))
    labels = dataset.labels[rows[order]]
    # The k-th image of each class before the (k+1)-th of any: balanced at every length.
    turn = np.zeros(len(rows), np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        turn[members] = np.arange(len(members))
    return rows[np.sort(order[np.argsort(turn, kind="stable")[:most]])]
