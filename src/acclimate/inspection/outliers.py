"""Outliers: images far from all others, such as screenshots among flowers, or a lens cap.

Source: Kuan and Mueller 2022, "Back to the Basics: Revisiting Out-of-Distribution Detection
Baselines", arXiv 2207.03061: the distance to the k-th nearest neighbor in feature space is as good
as other methods. We take the cosine distance of the features' square roots, so that one large
channel does not outweigh all others; of seven distances tried, it found the most planted outliers.
The score compares the logarithm of the distance with the median of the data, in median absolute
deviations, so that a score means the same for tight and for wide data.
"""

import numpy as np
from numpy.typing import NDArray

from acclimate.cleaning.findings import with_flag
from acclimate.data.blocks import blocks
from acclimate.data.dataset import Dataset, balanced_sample
from acclimate.errors import count
from acclimate.features.kernel import root_normalized
from acclimate.features.store import Features
from acclimate.inspection.feature_view import FeatureView

FLAG = "outlier"
_NEIGHBORS = 10
"""The k of the k-th neighbor: ten similar outliers (screenshots) must not hide each other."""
_MAX_REFERENCE = 5_000
"""Images that distances are measured to: a sample is enough to find what is far from all."""
_HALF_SCORE_AT = 3.0
"""Deviations from the median at which the score is one half."""
_BLOCK = 1024
"""Rows compared at once: 20 MB of distances to 5,000 others."""


def outliers(dataset: Dataset, view: FeatureView) -> Dataset:
    """Scores how far each image is from all others, and flags those above the threshold.

    Args:
        dataset: Cleaned.
        view: The features and the threshold.

    Returns:
        The data set with `outlier` (in [0, 1]: 0 is as near as most, 0.5 is three robust deviations
        farther) and `flags` filled.
    """
    rng = np.random.default_rng(view.context.seed_for("outliers"))
    rows, reference = view.rows, balanced_sample(dataset, view.reference, _MAX_REFERENCE, rng)
    score = np.full(len(dataset), np.nan)
    if len(reference) > 2 * _NEIGHBORS:
        known = root_normalized(view.features(reference))
        distance = np.empty(len(rows))
        for places, block in view.blocks(rows):
            distance[places] = _distances(root_normalized(block), rows[places], known, reference)
        score[rows] = outlier_scores(distance, distance[np.isin(rows, reference)])
        number = int((score[rows] >= view.settings.outlier).sum())
        found = count(number, "outlier") if number else "no outliers"
        view.context.progress.info(f"inspect: {found}")
    return dataset.with_columns(
        {
            "outlier": [None if np.isnan(s) else s for s in score],
            "flags": with_flag(dataset, FLAG, score >= view.settings.outlier),
        }
    )


def outlier_scores(
    distance: NDArray[np.float64], reference: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Scores of distances.

    Args:
        distance: float64, (N,), to the k-th neighbor.
        reference: float64, (M,): the distances that give the median and the deviation.

    Returns:
        float64, (N,), in [0, 1).
    """
    logs, known = np.log(distance + 1e-6), np.log(reference + 1e-6)
    median = np.median(known)
    spread = 1.4826 * np.median(np.abs(known - median)) + 1e-3
    deviations = np.maximum(0.0, (logs - median) / spread)
    return np.asarray(deviations / (deviations + _HALF_SCORE_AT))


def _distances(
    features: Features, rows: NDArray[np.int64], known: Features, reference: NDArray[np.int64]
) -> NDArray[np.float64]:
    """float64, (n,): cosine distance to the k-th nearest reference image other than itself."""
    found = np.empty(len(features))
    for block in blocks(len(features), _BLOCK):
        distance = 1 - features[block] @ known.T  # (b, R)
        distance[rows[block, None] == reference[None]] = np.inf
        nearest = np.partition(distance, _NEIGHBORS - 1, axis=1)[:, _NEIGHBORS - 1]
        found[block] = np.maximum(nearest, 0)
    return found
