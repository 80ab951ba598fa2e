"""Who judges whom: parts of the images, each judged by what learnt without it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acclimate.data.dataset import Dataset, Rows
from acclimate.inspection.feature_view import View

Logits = NDArray[np.float32]
"""(n, C), on any scale: how sure a judge may be is measured afterwards."""


@dataclass(frozen=True)
class Folds:
    """Images in parts.

    Attributes:
        judged: int64, (n,): the rows that are judged.
        taught: int64, (m,): the labelled rows that judges learn from.
        of: int64, (N,): the part of each row that may teach, -1 of those that never do.
        number: How many parts.
    """

    judged: Rows
    taught: Rows
    of: NDArray[np.int64]
    number: int

    def learnt_from(self, part: int) -> Rows:
        """int64: the rows that the judge of a part learns from."""
        found: Rows = self.taught[self.of[self.taught] != part]
        return found

    def asked_of(self, part: int) -> NDArray[np.int64]:
        """int64: places in `judged` of whom that judge speaks; strangers are judged by all."""
        of = self.of[self.judged]
        return np.flatnonzero((of == part) | (of < 0))

    def share(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32, (k, 1): what a single judge's answer counts at these places."""
        alone = self.of[self.judged[places]] >= 0
        return np.where(alone, 1, 1 / self.number).astype(np.float32)[:, None]


Judge = Callable[[View, Folds], Logits]
"""What networks that never saw an image say of it: one row for each that is judged."""


def dealt(dataset: Dataset, rows: Rows, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Deals images into parts, stratified by class.

    Near-duplicates stay together, or a copy would confirm a wrong label.

    Args:
        dataset: With labels and clusters.
        rows: Those that may teach.
        number: How many parts.
        rng: Deals.

    Returns:
        int64, (N,): the part of each of those rows, -1 elsewhere.
    """
    cluster = np.asarray(dataset.table["cluster"].to_numpy(zero_copy_only=False), np.float64)[rows]
    alone = np.isnan(cluster) | (cluster < 0)
    block = np.where(alone, -1.0 - np.arange(len(rows)), cluster)
    _, first, block = np.unique(block, return_index=True, return_inverse=True)
    order = rng.permutation(len(first))
    order = order[np.argsort(dataset.labels[rows[first[order]]], kind="stable")]
    parts = np.empty(len(first), np.int64)
    parts[order] = np.arange(len(first)) % number
    of = np.full(len(dataset), -1, np.int64)
    of[rows] = parts[block]
    return of
