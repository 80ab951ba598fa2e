"""Cross-validation folds: each image is predicted by a model that was fitted without it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acclimate.data.dataset import Dataset, Rows
from acclimate.inspection.feature_view import FeatureView

Logits = NDArray[np.float32]
"""(n, C), on any scale: they are calibrated afterwards."""


@dataclass(frozen=True)
class Folds:
    """Which rows each fold's model learns from and predicts.

    Attributes:
        rows: int64, (n,): the rows to predict.
        known: int64, (m,): the labelled rows that models learn from.
        fold: int64, (N,): the fold of each row that models may learn from, -1 for all others.
        number: Number of folds.
    """

    rows: Rows
    known: Rows
    fold: NDArray[np.int64]
    number: int

    def train(self, fold: int) -> Rows:
        """int64: the rows that a fold's model learns from."""
        found: Rows = self.known[self.fold[self.known] != fold]
        return found

    def held_out(self, fold: int) -> NDArray[np.int64]:
        """int64: positions in `rows` that a fold's model predicts.

        Rows that belong to no fold are predicted by the models of all folds.
        """
        folds = self.fold[self.rows]
        return np.flatnonzero((folds == fold) | (folds < 0))

    def weight(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32, (k, 1): the weight of one model's prediction at these positions."""
        in_one_fold = self.fold[self.rows[places]] >= 0
        return np.where(in_one_fold, 1, 1 / self.number).astype(np.float32)[:, None]


Estimator = Callable[[FeatureView, Folds], Logits]
"""Out-of-fold logits: one row for each of `Folds.rows`."""


def stratified_folds(
    dataset: Dataset, rows: Rows, number: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Assigns images to folds, stratified by class.

    Near-duplicates share a fold. Otherwise a copy would confirm its own wrong label.

    Args:
        dataset: With labels and clusters.
        rows: The rows to assign.
        number: Number of folds.
        rng: Shuffles the images.

    Returns:
        int64, (N,): the fold of each of those rows, -1 elsewhere.
    """
    cluster = np.asarray(dataset.table["cluster"].to_numpy(zero_copy_only=False), np.float64)[rows]
    single = np.isnan(cluster) | (cluster < 0)
    block = np.where(single, -1.0 - np.arange(len(rows)), cluster)
    _, first, block = np.unique(block, return_index=True, return_inverse=True)
    order = rng.permutation(len(first))
    order = order[np.argsort(dataset.labels[rows[first[order]]], kind="stable")]
    fold_of_block = np.empty(len(first), np.int64)
    fold_of_block[order] = np.arange(len(first)) % number
    fold = np.full(len(dataset), -1, np.int64)
    fold[rows] = fold_of_block[block]
    return fold
