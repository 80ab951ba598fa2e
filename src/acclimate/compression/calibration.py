"""A small balanced sample of the training images."""

import numpy as np

from acclimate.context import Context
from acclimate.data.dataset import Dataset, Rows, balanced_sample


def calibration_rows(dataset: Dataset, images: int, context: Context) -> Rows:
    """Chooses training images, as balanced between classes as their numbers allow.

    Args:
        dataset: Split.
        images: Largest number of images.
        context: Its seed decides the choice.

    Returns:
        int64, (n,), in the order of the table.
    """
    rng = np.random.default_rng(context.seed_for("calibration"))
    return balanced_sample(dataset, dataset.rows("train"), images, rng)
