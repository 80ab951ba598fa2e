"""Pairs of images that a network sees alike: stronger crops, edits, another shot of the same thing.

Neighbours are looked up in an inverted file (faiss), never among all pairs.
"""

import faiss
import numpy as np
from numpy.typing import NDArray

from acclimate.cleaning.alike import FEW, Scored, random_pairs, reach
from acclimate.context import Context
from acclimate.data.dataset import Dataset, Rows
from acclimate.features.extract import extract
from acclimate.models.pretrained import pretrained
from acclimate.models.settings import Model

_NEIGHBOURS = 17
"""Itself among them."""
_CELL = 256
_PROBES = 16


def features_of(dataset: Dataset, rows: Rows, context: Context) -> NDArray[np.float32]:
    """EfficientNet-Lite0's features, which the package brings.

    Args:
        dataset: Looked at.
        rows: Which images.
        context: The run; its cache keeps the features.

    Returns:
        float32, (n, D), rows of length 1.
    """
    found = extract(pretrained(Model()), dataset, rows, context)
    lengths = np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6)
    unit: NDArray[np.float32] = found / lengths
    return unit


def feature_threshold(features: NDArray[np.float32], least: float, seed: int) -> float:
    """From which cosine two of these images are alike: a third as far from 1 as random pairs reach.

    Args:
        features: float32, (N, D), of length 1.
        least: The answer for photos of different things.
        seed: Which pairs.

    Returns:
        In [least, 1).
    """
    if len(features) < FEW:
        return least
    a, b = random_pairs(len(features), seed)
    cosines = np.concatenate(
        [
            np.einsum("pd,pd->p", features[a[i : i + 2048]], features[b[i : i + 2048]])
            for i in range(0, len(a), 2048)
        ]
    )
    return max(least, 1 - (1 - reach(cosines, len(features), 2.326)) / 3)


def alike_by_features(features: NDArray[np.float32], least: float) -> Scored:
    """Pairs whose features point the same way.

    Args:
        features: float32, (N, D), of length 1.
        least: The cosine, in [0, 1].

    Returns:
        int64, (P, 2) pairs of rows, the lower first; float32, (P,) their cosines.
    """
    count, dimension = features.shape
    coarse = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFFlat(
        coarse, dimension, max(count // _CELL, 1), faiss.METRIC_INNER_PRODUCT
    )
    index.train(features)
    index.add(features)
    index.nprobe = _PROBES
    cosines, neighbours = index.search(features, min(_NEIGHBOURS, count))
    own = np.arange(count)[:, None]
    taken = (neighbours >= 0) & (neighbours != own) & (cosines >= least)
    pairs = np.stack([np.broadcast_to(own, neighbours.shape)[taken], neighbours[taken]], axis=1)
    scores = np.minimum(cosines[taken], 1).astype(np.float32)
    return np.sort(pairs, axis=1).astype(np.int64), scores
