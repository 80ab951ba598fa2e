"""Near pairs of points against comparing all pairs."""

import numpy as np
import pytest

from acclimate.cleaning.duplicates.radius_neighbors import radius_neighbors


def unit(rows):
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def met(points, radius, seed=0):
    """The pairs that are in a neighbourhood together, the lower row first."""
    found = set()
    for some, others in radius_neighbors(points, radius, seed):
        found |= {(min(i, j), max(i, j)) for i in some for j in others if i != j}
    return found


def near(points, radius):
    squares = 2 - 2 * points @ points.T
    return {(i, j) for i, j in np.argwhere(squares <= radius**2).tolist() if i < j}


@pytest.mark.parametrize("seed", [0, 1])
def test_near_points_meet_and_most_others_do_not(seed):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(30, 1, 48))
    points = unit((centres + 0.4 * rng.normal(size=(30, 40, 48))).reshape(-1, 48))
    true = near(points, 0.55)
    assert len(true) > 1000
    found = met(points, 0.55, seed)
    assert len(true & found) >= 0.999 * len(true)
    assert len(found) < len(points) ** 2 / 10


def test_no_point_meets_only_itself():
    assert list(radius_neighbors(unit(np.eye(600)), 0.5, 0)) == []
    assert list(radius_neighbors(unit(np.ones((1, 8))), 0.5, 0)) == []


def test_equal_points_more_than_a_cell_holds_all_meet():
    points = np.concatenate([unit(np.eye(300)), unit(np.tile(np.eye(300)[7] + 1, (700, 1)))])
    found = list(radius_neighbors(points, 0.01, 0))
    assert max(len(some) for some, _ in found) <= 256
    assert set().union(*(some.tolist() for some, _ in found)) == set(range(300, 1000))
    assert all(others.tolist() == sorted(set(others)) for _, others in found)
    assert all(len(others) == 700 for _, others in found)
