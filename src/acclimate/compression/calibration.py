"""Which images stand for all of them when a stage only needs a few."""

import numpy as np

from acclimate.context import Context
from acclimate.data.dataset import Dataset, Rows, balanced_sample


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
    return balanced_sample(dataset, dataset.rows("train"), images, rng)
