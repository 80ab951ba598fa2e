import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from acclimate.cleaning.duplicates import thumbnail_pairs as module
from acclimate.cleaning.duplicates.thumbnail_pairs import (
    near_duplicate_pairs,
    near_duplicate_threshold,
)


def pictures(count, seed=0):
    """Smooth random pictures: (count, 16, 16)."""
    rng = np.random.default_rng(seed)
    return enlarged(rng.integers(0, 256, (count, 7, 7), dtype=np.uint8))


def enlarged(images):
    size = (16, 16)
    return np.stack([np.asarray(Image.fromarray(i).resize(size, Image.BICUBIC)) for i in images])


def scans():
    return enlarged((load_digits().images * (255 / 16)).astype(np.uint8))


def noisy(pictures, level=3, seed=1):
    rng = np.random.default_rng(seed)
    moved = pictures.astype(int) + rng.integers(-level, level + 1, pictures.shape)
    return np.clip(moved, 0, 255).astype(np.uint8)


def test_copies_are_found_and_nothing_else():
    base = pictures(300)
    pairs, scores = near_duplicate_pairs(np.concatenate([base, noisy(base[:40])]), 0.95)
    assert pairs.tolist() == [[i, 300 + i] for i in range(40)]
    assert scores.min() > 0.98


def test_pictures_without_copies_have_no_pairs():
    pairs, scores = near_duplicate_pairs(pictures(500), 0.95)
    assert pairs.shape == (0, 2)
    assert scores.shape == (0,)


def test_a_set_that_is_one_picture_many_times_is_one_cluster_and_takes_no_time():
    many = noisy(np.repeat(pictures(1), 400, axis=0), 3)
    pairs, _ = near_duplicate_pairs(many, 0.95)
    assert set(np.unique(pairs).tolist()) == set(range(400))
    assert len(pairs) < 400 * 64


def test_different_scans_of_digits_are_no_copies_of_each_other():
    digits = scans()
    least = near_duplicate_threshold(digits, 0.95, seed=0)
    assert 0.99 < least <= 0.9985
    assert len(near_duplicate_pairs(digits, least)[0]) <= 3
    copies = np.concatenate([digits, noisy(digits[:100], 2)])
    pairs, _ = near_duplicate_pairs(copies, least)
    assert {(i, len(digits) + i) for i in range(100)} <= {tuple(pair) for pair in pairs.tolist()}


def test_photos_keep_the_threshold_that_was_asked_for():
    assert near_duplicate_threshold(pictures(200), 0.95, seed=0) == 0.95
    assert near_duplicate_threshold(pictures(200), 0.97, seed=0) == 0.97


def test_copies_that_are_there_hardly_raise_the_threshold():
    base = pictures(200)
    assert near_duplicate_threshold(np.concatenate([base, noisy(base)]), 0.95, seed=0) < 0.96


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_pictures_are_enough(count):
    some = pictures(count)
    assert 0.95 <= near_duplicate_threshold(some, 0.95, seed=0) <= 0.9985
    assert not len(near_duplicate_pairs(some, 0.95)[0])


def test_parts_of_the_queries_find_what_all_at_once_would(monkeypatch):
    base = pictures(120)
    both = np.concatenate([base, noisy(base[::3])])
    whole = near_duplicate_pairs(both, 0.95)
    monkeypatch.setattr(module, "_QUERIES", 7)
    parts = near_duplicate_pairs(both, 0.95)
    assert parts[0].tolist() == whole[0].tolist()
    assert len(whole[0]) == 40
