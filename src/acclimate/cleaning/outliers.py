"""Images far from all others: screenshots among flowers, a lens cap, another data set's leftovers.

Source: Kuan and Mueller 2022, "Back to the Basics: Revisiting Out-of-Distribution Detection
Baselines", arXiv 2207.03061: the distance to the k-th neighbour in feature space is as good as
anything. We compare its logarithm with the median of the data by the median absolute deviation,
so that the score means the same for tight data and for wide data.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from acclimate.cleaning.flags import flagged
from acclimate.cleaning.settings import Inspect
from acclimate.cleaning.view import View
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.errors import count
from acclimate.features.store import Features

FLAG = "outlier"
_NEIGHBOURS = 10
"""A handful of equally odd images (ten screenshots) shall not vouch for each other."""
_DIMENSIONS = 128
"""Of the principal components: distances as good as all 1,280, ten times sooner."""
_HALF = 4.0
"""Deviations from the median at which the score is one half."""
_BLOCK = 1024
"""Rows compared at once: 80 MB of distances to 20,000 others."""


def outliers(dataset: Dataset, view: View, settings: Inspect, context: Context) -> Dataset:
    """Scores how far every image is from all others, and flags those that are far out.

    Args:
        dataset: Cleaned.
        view: The features.
        settings: From which score on.
        context: The run.

    Returns:
        The data set with `outlier` (in [0, 1]: 0 is as near as most, 0.5 is four robust deviations
        farther) and `flags` filled.
    """
    rows, reference = view.rows, view.reference
    score = np.full(len(dataset), np.nan)
    if len(reference) > 2 * _NEIGHBOURS:
        known = view.features(reference)
        project = _projection(known)
        near = project(known)
        distance = np.empty(len(rows))
        for places, block in view.blocks(rows):
            distance[places] = _distances(project(block), rows[places], near, reference)
        score[rows] = scores(distance, distance[np.isin(rows, reference)])
        far = int((score[rows] >= settings.outlier).sum())
        context.progress.say(f"inspect: {count(far, 'image')} far from all others")
    return dataset.with_columns(
        {
            "outlier": [None if np.isnan(s) else s for s in score],
            "flags": flagged(dataset, FLAG, score >= settings.outlier),
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


def _projection(features: Features) -> Callable[[Features], Features]:
    """Standardized features to unit vectors of their leading principal components."""
    mean, std = features.mean(0), features.std(0) + 1e-6
    scaled = (features - mean) / std
    _, axes = np.linalg.eigh(scaled.T @ scaled / len(scaled))
    axes = axes[:, ::-1][:, :_DIMENSIONS].astype(np.float32)  # (D, d)

    def project(rows: Features) -> Features:
        turned = (rows - mean) / std @ axes
        length = np.linalg.norm(turned, axis=1, keepdims=True)
        return np.asarray(turned / np.maximum(length, 1e-12), np.float32)

    return project


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
