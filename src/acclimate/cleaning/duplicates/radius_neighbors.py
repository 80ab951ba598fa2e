"""Radius search among many points without comparing all pairs, by an inverted file.

Each point is assigned to the list of its nearest centroid. If two close points are in different
lists, at least one of them is close to the boundary between the lists. So each point is compared
with the lists whose boundary is close to it only.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from acclimate.data.blocks import blocks
from acclimate.data.dataset import Rows

Points = NDArray[np.float32]
"""(N, M)."""

_LIST_SIZE = 128
"""Points per list, on average. With shorter lists a point is compared with fewer others (of
11,000 images 460 with lists of 128, 160 with lists of 32), but there are more centroids, and more
pairs are missed."""
_LLOYD_STEPS = 4
"""Steps of Lloyd's algorithm. With ten a point probes about as many lists as with four."""
_SAMPLES_PER_CENTROID = 64
"""Training points per centroid."""
_BOUNDARY_FRACTION = 0.3
"""Distance to the boundary, as a fraction of the radius, up to which a list is probed. With 0.5 no
pair can be missed. With 0.3 all but 4 in 10,000 pairs were found on features of photos and digits,
in a third of the time: two points rarely differ in the direction across the boundary only."""
_LISTS_PER_BLOCK = 32
"""Lists whose candidates are computed at a time."""
_QUERY_BLOCK = 256
_BLOCK = 1 << 13
"""Points whose distances are in memory at a time."""
_ROUNDING = 1e-5
"""Rounding error of a squared distance."""


def radius_neighbors(points: Points, radius: float, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """Yields sets of points with their neighbors; nearly every close pair is in one or two sets.

    Args:
        points: float32, (N, M), of length about 1.
        radius: The largest distance of two neighbors.
        seed: For the initial centroids.

    Yields:
        tuple[Rows, Rows]: At most 256 points that have a neighbor, int64 (A,), and all neighbors
            of these, int64 (B,), each once. A point is not its own neighbor.
    """
    centroids = _centroids(points, seed)
    list_of, own = _nearest_centroid(points, centroids)
    order = np.argsort(list_of, kind="stable")
    points, list_of, own = points[order], list_of[order], own[order]
    starts = np.searchsorted(list_of, np.arange(len(centroids) + 1))
    distances = np.sqrt(np.maximum(_squared_distances(centroids, centroids), 0))
    for block in blocks(len(centroids), _LISTS_PER_BLOCK):
        some = np.arange(block.start, block.stop)
        # The distance to the boundary between two lists, times the distance of their centroids.
        margin = (_squared_distances(points, centroids[some]) - own[:, None]) / 2
        limit = _BOUNDARY_FRACTION * radius * distances[np.ix_(list_of, some)]
        probes = margin <= limit + _ROUNDING  # (N, lists)
        for here, candidates in zip(some, probes.T, strict=True):
            positions = range(starts[here], starts[here + 1])
            for near, others in _neighbors_in_list(
                points, positions, np.flatnonzero(candidates), radius**2
            ):
                yield order[near], order[others]


def _neighbors_in_list(
    points: Points, positions: range, candidates: Rows, squared_radius: float
) -> Iterator[tuple[Rows, Rows]]:
    """The points of a list that have a neighbor among the candidates, and these neighbors."""
    for first in range(positions.start, positions.stop, _QUERY_BLOCK):
        members = np.arange(first, min(first + _QUERY_BLOCK, positions.stop))
        is_near, others = np.zeros(len(members), bool), []
        for block in blocks(len(candidates), _BLOCK):
            some = candidates[block]
            squares = _squared_distances(points[members], points[some])  # (A, B)
            found = squares <= squared_radius + _ROUNDING
            found &= members[:, None] != some
            is_near |= found.any(1)
            others.append(some[found.any(0)])
        if is_near.any():
            yield members[is_near], np.concatenate(others)


def _centroids(points: Points, seed: int) -> Points:
    """Lloyd's algorithm (1982, "Least squares quantization in PCM") on a sample of the points."""
    count = max(len(points) // _LIST_SIZE, 1)
    rng = np.random.default_rng(seed)
    some = rng.permutation(len(points))[: count * _SAMPLES_PER_CENTROID]
    sample = points[some]
    centroids = sample[:count]
    for _ in range(_LLOYD_STEPS):
        list_of, _ = _nearest_centroid(sample, centroids)
        sizes = np.bincount(list_of, minlength=count)
        weights = 1 / sizes[list_of].astype(np.float32)
        member = csr_matrix((weights, (list_of, np.arange(len(sample)))), (count, len(sample)))
        means = member @ sample
        centroids = np.where(sizes[:, None] > 0, means, centroids)
    return centroids


def _nearest_centroid(points: Points, centroids: Points) -> tuple[Rows, NDArray[np.float32]]:
    """The nearest centroid of each point, and the squared distance."""
    list_of, squares = np.empty(len(points), np.int64), np.empty(len(points), np.float32)
    for some in blocks(len(points), _BLOCK):
        found = _squared_distances(points[some], centroids)
        list_of[some] = found.argmin(1)
        squares[some] = found.min(1)
    return list_of, squares


def _squared_distances(some: Points, others: Points) -> NDArray[np.float32]:
    """Squared distances (A, B) of points (A, M) and (B, M)."""
    squares: NDArray[np.float32] = some @ (-2 * others.T)
    squares += (some**2).sum(1)[:, None]
    squares += (others**2).sum(1)
    return squares
