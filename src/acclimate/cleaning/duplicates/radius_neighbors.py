"""Which points are near each other, among many, without comparing all pairs.

The points are dealt into cells, each with the points that are nearest to one centre. Half way
between two centres stands a wall. Of two near points on either side of a wall at least one is near
the wall, so every point asks only the cells whose walls are near.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from acclimate.data.dataset import Rows

Points = NDArray[np.float32]
"""(N, M)."""

_CELL = 128
"""Points of a cell, about. In smaller ones a point is held against fewer others (of 11,000 images
460 in cells of 128, 160 in cells of 32), but there are more centres, and more pairs are missed."""
_ROUNDS = 4
"""Of moving the centres: ten let a point ask about as many cells as four."""
_LEARNT_FROM = 64
"""Points for each centre."""
_SHARE = 0.3
"""How near, as a part of the radius. With half no pair could be missed. With 0.3 all but 4 in
10,000 were found on features of photos and of digits, for a third of the time: what sets two points
apart is seldom the way straight across the wall."""
_CELLS = 32
"""Whose askers are found at a time."""
_MEMBERS = 256
_BLOCK = 1 << 13
"""Points whose distances are held at a time."""
_ROUNDING = 1e-5
"""Of the square of a distance."""


def neighbourhoods(points: Points, radius: float, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """Sets of points, and those that are near them; nearly every near pair is in one or two.

    Args:
        points: float32, (N, M), of length about 1.
        radius: How far from each other two near points are at most.
        seed: Which points the centres start from.

    Yields:
        tuple[Rows, Rows]: At most 256 points that have a near one, int64 (A,), and all points that
            are near one of these, int64 (B,), each once. A point is not near itself.
    """
    centres = _centres(points, seed)
    cell, own = _nearest(points, centres)
    order = np.argsort(cell, kind="stable")
    points, cell, own = points[order], cell[order], own[order]
    edges = np.searchsorted(cell, np.arange(len(centres) + 1))
    apart = np.sqrt(np.maximum(_squares(centres, centres), 0))
    for first in range(0, len(centres), _CELLS):
        some = np.arange(first, min(first + _CELLS, len(centres)))
        past = (_squares(points, centres[some]) - own[:, None]) / 2  # wall's distance * apart
        asks = past <= _SHARE * radius * apart[np.ix_(cell, some)] + _ROUNDING  # (N, cells)
        for here, askers in zip(some, asks.T, strict=True):
            cell_rows = range(edges[here], edges[here + 1])
            for near, others in _near(points, cell_rows, np.flatnonzero(askers), radius**2):
                yield order[near], order[others]


def _near(points: Points, cell: range, askers: Rows, square: float) -> Iterator[tuple[Rows, Rows]]:
    """The members of a cell that are near any asker, and the askers that are near any of them."""
    for first in range(cell.start, cell.stop, _MEMBERS):
        members = np.arange(first, min(first + _MEMBERS, cell.stop))
        is_near, others = np.zeros(len(members), bool), []
        for start in range(0, len(askers), _BLOCK):
            some = askers[start : start + _BLOCK]
            found = _squares(points[members], points[some]) <= square + _ROUNDING  # (A, B)
            found &= members[:, None] != some
            is_near |= found.any(1)
            others.append(some[found.any(0)])
        if is_near.any():
            yield members[is_near], np.concatenate(others)


def _centres(points: Points, seed: int) -> Points:
    """Lloyd's algorithm (1982, "Least squares quantization in PCM") on some of the points."""
    count = max(len(points) // _CELL, 1)
    rng = np.random.default_rng(seed)
    some = rng.permutation(len(points))[: count * _LEARNT_FROM]
    sample = points[some]
    centres = sample[:count]
    for _ in range(_ROUNDS):
        cell, _ = _nearest(sample, centres)
        sizes = np.bincount(cell, minlength=count)
        weights = 1 / sizes[cell].astype(np.float32)
        member = csr_matrix((weights, (cell, np.arange(len(sample)))), (count, len(sample)))
        means = member @ sample
        centres = np.where(sizes[:, None] > 0, means, centres)
    return centres


def _nearest(points: Points, centres: Points) -> tuple[Rows, NDArray[np.float32]]:
    """The centre of each point, and the square of its distance."""
    cell, squares = np.empty(len(points), np.int64), np.empty(len(points), np.float32)
    for start in range(0, len(points), _BLOCK):
        some = slice(start, start + _BLOCK)
        found = _squares(points[some], centres)
        cell[some] = found.argmin(1)
        squares[some] = found.min(1)
    return cell, squares


def _squares(some: Points, others: Points) -> NDArray[np.float32]:
    """(A, M) and (B, M) to the squares of their distances, (A, B)."""
    squares: NDArray[np.float32] = some @ (-2 * others.T)
    squares += (some**2).sum(1)[:, None]
    squares += (others**2).sum(1)
    return squares
