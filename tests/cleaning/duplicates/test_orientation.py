"""Mirrored and turned copies are found in every orientation, and nothing else is."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from acclimate.cleaning.duplicates.orientation import turned_pairs


def enlarged(images):
    size = (16, 16)
    return np.stack([np.asarray(Image.fromarray(i).resize(size, Image.BICUBIC)) for i in images])


def pictures(count, seed=0):
    """Smooth random pictures: (count, 16, 16)."""
    rng = np.random.default_rng(seed)
    return enlarged(rng.integers(0, 256, (count, 7, 7), dtype=np.uint8))


def noisy(pictures, level=3, seed=1):
    rng = np.random.default_rng(seed)
    moved = pictures.astype(int) + rng.integers(-level, level + 1, pictures.shape)
    return np.clip(moved, 0, 255).astype(np.uint8)


MIRRORED = {
    "left to right": lambda t: t[:, :, ::-1],
    "top to bottom": lambda t: t[:, ::-1],
}
TURNED = {
    "90": lambda t: np.rot90(t, 1, (1, 2)),
    "180": lambda t: np.rot90(t, 2, (1, 2)),
    "270": lambda t: np.rot90(t, 3, (1, 2)),
}
BOTH = {
    "transposed": lambda t: t.transpose(0, 2, 1),
    "transposed the other way": lambda t: np.rot90(t, 2, (1, 2)).transpose(0, 2, 1),
}


def found(thumbnails, *, mirrored=True, rotated=True):
    pairs, scores = turned_pairs(thumbnails, 0.95, 0, mirrored=mirrored, rotated=rotated)
    assert len(scores) == len(pairs)
    return pairs.tolist()


@pytest.mark.parametrize("turn", [*MIRRORED, *TURNED, *BOTH])
def test_a_copy_is_found_if_its_orientation_is_asked_for(turn):
    base = pictures(60)
    changed = {**MIRRORED, **TURNED, **BOTH}[turn](base[:10])
    both = np.concatenate([base, noisy(changed)])
    expected = [[i, 60 + i] for i in range(10)]
    assert found(both) == expected
    assert found(both, rotated=False) == (expected if turn in MIRRORED else [])
    assert found(both, mirrored=False) == (expected if turn in TURNED else [])
    assert found(both, mirrored=False, rotated=False) == []


def test_a_symmetric_picture_is_found_though_its_orientation_is_undecided():
    base = pictures(40)
    symmetric = ((4 * base.astype(int) + 3 * base[:, :, ::-1]) // 7).astype(np.uint8)
    both = np.concatenate([symmetric, noisy(np.rot90(symmetric, 1, (1, 2)), 1)])
    assert found(both) == [[i, 40 + i] for i in range(40)]


def test_pictures_without_copies_and_flat_ones_have_no_pairs():
    assert found(pictures(500)) == []
    assert found(np.full((30, 16, 16), 90, np.uint8)) == []
    assert found(pictures(1)) == []


def test_different_scans_of_digits_are_no_turned_copies_of_each_other():
    scans = enlarged((load_digits().images * (255 / 16)).astype(np.uint8))
    assert len(found(scans)) <= 3
