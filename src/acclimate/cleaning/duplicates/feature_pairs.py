"""Pairs of images with similar network features: stronger crops, edits, other shots of a thing.

Candidates are found by random projections of the features in an inverted file; the cosine
similarity of the full features decides. The features stay on disk and are read in blocks.
"""

from collections.abc import Iterator, Sized
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import minimum_spanning_tree

from acclimate.cleaning.duplicates.connected_components import component_labels
from acclimate.cleaning.duplicates.radius_neighbors import Points, radius_neighbors
from acclimate.cleaning.duplicates.thumbnail_pairs import (
    MIN_SAMPLE,
    ScoredPairs,
    correlation_quantile,
    merge_pairs,
    random_pairs,
)
from acclimate.context import Context
from acclimate.data.blocks import blocks
from acclimate.data.dataset import Dataset, Rows
from acclimate.features.extract import extract_to_disk
from acclimate.features.store import Features
from acclimate.models.pretrained import pretrained
from acclimate.models.settings import Model

_SKETCH = 128
"""Dimensions of a random projection. On features of photos, half as many give a quarter more
candidates; twice as many give an eighth fewer, in twice the time."""
_SKETCH_DEVIATIONS = 3
"""Standard deviations of the projection's error that are allowed for. It misses one in a thousand
of the pairs that are exactly at the threshold, and none of the others."""
_BLOCK = 2048
_MAX_PAIRS_PER_IMAGE = 64
"""Pairs per image above which only a spanning forest is kept."""


class FeatureRows(Sized, Protocol):
    """Features in an array or on disk."""

    def __getitem__(self, places: Rows, /) -> Features:
        """The features of some images.

        Args:
            places: int64, (n,).

        Returns:
            float32, (n, D), of any length.
        """
        ...


def extract_features(dataset: Dataset, rows: Rows, context: Context) -> FeatureRows:
    """Extracts features with EfficientNet-Lite0, which comes with the package.

    Args:
        dataset: Measured.
        rows: Which images.
        context: The run; its cache keeps the features.

    Returns:
        The features of each row, on disk.
    """
    return extract_to_disk(pretrained(Model()), dataset, rows, context)


def feature_threshold(features: FeatureRows, min_cosine: float, seed: int) -> float:
    """The cosine similarity from which two images match.

    It is a third as far from 1 as the upper tail of random pairs, and at least `min_cosine`.

    Args:
        features: N rows of D features.
        min_cosine: The lowest threshold, used for photos of different things.
        seed: Which pairs.

    Returns:
        In [least, 1).
    """
    if len(features) < MIN_SAMPLE:
        return min_cosine
    a, b = random_pairs(len(features), seed)
    cosines = np.concatenate(
        [
            np.einsum(
                "pd,pd->p",
                _normalized(features, a[block]),
                _normalized(features, b[block]),
            )
            for block in blocks(len(a), _BLOCK)
        ]
    )
    return max(min_cosine, 1 - (1 - correlation_quantile(cosines, len(features), 2.326)) / 3)


def similar_pairs(features: FeatureRows, min_cosine: float, seed: int) -> ScoredPairs:
    """Finds pairs of images with a high cosine similarity.

    Of an image with very many copies, only a spanning forest of the most similar pairs is
    returned; it connects the same images.

    Args:
        features: N rows of D features.
        min_cosine: The threshold, in [0, 1].
        seed: For the projection and the inverted file.

    Returns:
        int64, (P, 2) pairs of rows, the lower first, each once; float32, (P,) their cosines.
    """
    sketches, error = _sketches(features, seed)
    # The squared distance of unit vectors is 2 - 2 cosine.
    radius = float((2 * (1 - min_cosine) * (1 + _SKETCH_DEVIATIONS * error)) ** 0.5)
    linked = np.arange(len(features))  # connected rows have the same number
    kept: list[ScoredPairs] = [(np.empty((0, 2), np.int64), np.empty(0, np.float32))]
    for some, others in radius_neighbors(sketches, radius, seed):
        found = list(_pairs(features, some, others, min_cosine, linked))
        pairs, cosines = (np.concatenate(parts) for parts in zip(*found, strict=True))
        if len(pairs) > _MAX_PAIRS_PER_IMAGE * len(some):
            pairs, cosines = _spanning_forest(pairs, cosines, len(features))
            links = np.stack([np.arange(len(features)), linked], axis=1)
            linked = component_labels(np.concatenate([links, pairs]), len(features))
        kept.append((pairs, cosines))
    return merge_pairs(kept)


def _sketches(features: FeatureRows, seed: int) -> tuple[Points, float]:
    """Projects normalized features to fewer dimensions, nearly keeping their distances.

    M orthogonal random directions keep a share of each squared distance, with a beta
    distribution of mean M / D (Johnson and Lindenstrauss 1984).

    Args:
        features: N rows of D features.
        seed: For the directions.

    Returns:
        float32, (N, M), and the relative standard deviation of a squared distance.
    """
    dimension = features[np.arange(1)].shape[1]
    sketch_size = min(_SKETCH, dimension)
    random = np.random.default_rng(seed).standard_normal((dimension, sketch_size))
    # Orthogonalized by Cholesky factorization: `qr` takes seconds if its threads wait for a core.
    orthogonal = random @ np.linalg.inv(np.linalg.cholesky(random.T @ random)).T
    axes = (orthogonal * (dimension / sketch_size) ** 0.5).astype(np.float32)
    sketches = np.empty((len(features), sketch_size), np.float32)
    for block in blocks(len(features), _BLOCK):
        places = np.arange(block.start, block.stop)
        sketches[places] = _normalized(features, places) @ axes
    return sketches, (2 * (dimension - sketch_size) / (sketch_size * (dimension + 2))) ** 0.5


def _pairs(
    features: FeatureRows, some: Rows, others: Rows, min_cosine: float, linked: Rows
) -> Iterator[ScoredPairs]:
    """Every matching pair of the two sets that is not connected yet, once, lower row first."""
    queries = _normalized(features, some)
    for block in blocks(len(others), _BLOCK):
        part = others[block]
        own = np.isin(part, some)  # such a pair would be found twice
        new = np.where(own, some[:, None] < part, linked[some][:, None] != linked[part])
        cosines = queries @ _normalized(features, part).T  # (A, B)
        row, column = np.nonzero((cosines >= min_cosine) & new)
        pairs = np.sort(np.stack([some[row], part[column]], axis=1), axis=1)
        yield pairs, np.minimum(cosines[row, column], 1)


def _spanning_forest(
    pairs: NDArray[np.int64], cosines: NDArray[np.float32], count: int
) -> ScoredPairs:
    """The spanning forest of the most similar pairs."""
    # Lengths start at 1, since a length of 0 would mean that there is no edge.
    lengths = 2 - cosines.astype(np.float64)
    tree = minimum_spanning_tree(coo_matrix((lengths, pairs.T), (count, count))).tocoo()
    taken = np.sort(np.stack([tree.row, tree.col], axis=1).astype(np.int64), axis=1)
    return taken, (2 - tree.data).astype(np.float32)


def _normalized(features: FeatureRows, places: Rows) -> NDArray[np.float32]:
    """The features of some images, scaled to length 1."""
    found = features[places]
    unit: NDArray[np.float32] = found / np.maximum(
        np.linalg.norm(found, axis=1, keepdims=True), 1e-6
    )
    return unit
