"""Which images stand for all of them when a stage only needs a few."""

import numpy as np

from acclimate.context import Context
from acclimate.data.dataset import Dataset, Rows


def calibration_rows(dataset: Dataset, images: int, context: Context) -> Rows:
    """Training images, as many of each class as their number allows.

    Args:
        dataset: Split.
        images: How many at most.
        context: Its seed chooses.

    Returns:
        int64, (n,), in the table's order.
    """
    rng = np.random.default_rng(context.seed_for("calibration"))
    rows = rng.permutation(dataset.rows("train"))
    labels = dataset.labels[rows]
    # The k-th image of each class before the (k+1)-th of any: balanced at every length.
    turn = np.zeros(len(rows), np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        turn[members] = np.arange(len(members))
    return np.sort(rows[np.argsort(turn, kind="stable")[:images]])
