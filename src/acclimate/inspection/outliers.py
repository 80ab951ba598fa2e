"""Images far from all others: screenshots among flowers, a lens cap, another data set's leftovers.

Source: Kuan and Mueller 2022, "Back to the Basics: Revisiting Out-of-Distribution Detection
Baselines", arXiv 2207.03061: the distance to the k-th neighbour in feature space is as good as
anything. We take the cosine of the features' square roots (one loud channel does not outweigh all
others; of seven distances tried it found most planted strangers), and compare its logarithm with
the median of the data by the median absolute deviation, so that a score means the same for tight
data and for wide data.
"""

import numpy as np
from numpy.typing import NDArray

from acclimate.cleaning.flags import flagged
from acclimate.data.dataset import Dataset, balanced
from acclimate.errors import count
from acclimate.features.kernel import root_normalized
from acclimate.features.store import Features
from acclimate.inspection.feature_view import View

FLAG = "outlier"
_NEIGHBOURS = 10
"""A handful of equally odd images (ten screenshots) shall not vouch for each other."""
_MOST = 5_000
"""Images that distances are measured to: a sample is enough to say what is far from everything."""
_HALF = 3.0
"""Deviations from the median at which the score is one half."""
_BLOCK = 1024
"""Rows compared at once: 20 MB of distances to 5,000 others."""


def outliers(dataset: Dataset, view: View) -> Dataset:
    """Scores how far every image is from all others, and flags those that are far out.

    Args:
        dataset: Cleaned.
        view: The features; from which score on.

    Returns:
        The data set with `outlier` (in [0, 1]: 0 is as near as most, 0.5 is three robust deviations
        farther) and `flags` filled.
    """
    rng = np.random.default_rng(view.context.seed_for("outliers"))
    rows, reference = view.rows, balanced(dataset, view.reference, _MOST, rng)
    score = np.full(len(dataset), np.nan)
    if len(reference) > 2 * _NEIGHBOURS:
        near = root_normalized(view.features(reference))
        distance = np.empty(len(rows))
        for places, block in view.blocks(rows):
            distance[places] = _distances(root_normalized(block), rows[places], near, reference)
        score[rows] = scores(distance, distance[np.isin(rows, reference)])
        far = int((score[rows] >= view.settings.outlier).sum())
        view.context.progress.info(f"inspect: {count(far, 'image')} far from all others")
    return dataset.with_columns(
        {
            "outlier": [None if np.isnan(s) else s for s in score],
            "flags": flagged(dataset, FLAG, score >= view.settings.outlier),
        }
    )


def scores(distance: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances as scores.

    Args:
        distance: float64, (N,), to the k-th neighbour.
        usual: float64, (M,): what is measured by.

    Returns:
        float64, (N,), in [0, 1).
    """
    logs, known = np.log(distance + 1e-6), np.log(usual + 1e-6)
    middle = np.median(known)
    spread = 1.4826 * np.median(np.abs(known - middle)) + 1e-3
    deviations = np.maximum(0.0, (logs - middle) / spread)
    return np.asarray(deviations / (deviations + _HALF))


def _distances(
    some: Features, rows: NDArray[np.int64], near: Features, reference: NDArray[np.int64]
) -> NDArray[np.float64]:
    """float64, (n,): cosine distance to the k-th nearest of the reference, itself left out."""
    found = np.empty(len(some))
    for start in range(0, len(some), _BLOCK):
        part = slice(start, start + _BLOCK)
        distance = 1 - some[part] @ near.T  # (b, R)
        distance[rows[part, None] == reference[None]] = np.inf
        nearest = np.partition(distance, _NEIGHBOURS - 1, axis=1)[:, _NEIGHBOURS - 1]
        found[part] = np.maximum(nearest, 0)
    return found
