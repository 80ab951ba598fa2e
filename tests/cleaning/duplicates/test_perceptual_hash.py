import numpy as np
import pytest
from PIL import Image, ImageEnhance

from acclimate.cleaning.duplicates.perceptual_hash import (
    CROP_WINDOWS,
    correlations,
    crop_thumbnails,
    hashes,
    registered_correlations,
)


def scene(seed):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (9, 12), dtype=np.uint8))
    return small.resize((240, 180), Image.Resampling.BICUBIC)


def thumbnail(image):
    small = image.resize((16, 16), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return np.asarray(small)[None]


def cropped(image, window):
    (top, bottom), (left, right) = CROP_WINDOWS[window]
    width, height = image.size
    return image.crop((left * width, top * height, right * width, bottom * height))


SEEDS = range(12)
each_window = pytest.mark.parametrize("window", range(len(CROP_WINDOWS)))


def bits(a, b):
    return int(np.bitwise_count(a ^ b)[0])


def test_the_first_window_is_the_whole():
    picture = thumbnail(scene(0))
    assert CROP_WINDOWS[0] == ((0.0, 1.0), (0.0, 1.0))
    assert np.abs(crop_thumbnails(picture, 0) - picture).max() < 1e-3
    assert len(CROP_WINDOWS) == 16


@each_window
def test_a_crop_is_seen_in_its_window(window):
    for seed in SEEDS:
        whole, part = thumbnail(scene(seed)), thumbnail(cropped(scene(seed), window))
        shown = crop_thumbnails(whole, window)
        assert bits(hashes(shown), hashes(part)) <= 6
        assert correlations(shown, part)[0] > 0.98
        assert registered_correlations(whole, part, np.asarray([window]))[0] > 0.98


def test_a_crop_between_the_windows_is_laid_on_exactly():
    moved = []
    for seed in SEEDS:
        image = scene(seed)
        part = thumbnail(image.crop((8, 6, 231, 174)))
        whole = thumbnail(image)
        start = np.asarray([0])
        moved.append((correlations(whole, part)[0], registered_correlations(whole, part, start)[0]))
    assert np.min([after for _, after in moved]) > 0.98
    assert np.min([before for before, _ in moved]) < 0.95


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.3])
def test_brightness_changes_nothing_even_where_it_is_cut_off_at_white(factor):
    for seed in SEEDS:
        image = scene(seed)
        other = thumbnail(ImageEnhance.Brightness(image).enhance(factor))
        assert registered_correlations(thumbnail(image), other, np.asarray([0]))[0] > 0.97
        assert bits(hashes(thumbnail(image)), hashes(other)) <= 11


def test_what_was_cut_off_at_white_counts_as_explained():
    for seed in SEEDS:
        whole = thumbnail(scene(seed))
        cut = np.minimum(whole * 1.7 + 20, 255).astype(np.uint8)
        assert correlations(whole, cut)[0] < 0.98
        assert registered_correlations(whole, cut, np.asarray([0]))[0] > 0.995


def test_different_pictures_are_far_apart():
    pictures = np.concatenate([thumbnail(scene(seed)) for seed in range(40)])
    a, b = np.triu_indices(40, 1)
    far = np.bitwise_count(hashes(pictures)[a] ^ hashes(pictures)[b])
    assert far.min() > 11
    assert registered_correlations(pictures[a], pictures[b], np.zeros(len(a), np.int64)).max() < 0.9


def test_an_inverted_picture_is_another_one():
    picture = thumbnail(scene(0))
    assert registered_correlations(picture, 255 - picture, np.asarray([0]))[0] < 0.5
    assert bits(hashes(picture), hashes(255 - picture)) > 50


def test_flat_pictures_are_like_nothing_not_even_themselves():
    flat = np.full((1, 16, 16), 90, np.uint8)
    flat[0, 0, 0] = 92
    assert registered_correlations(flat, flat, np.asarray([0]))[0] == 0
    assert correlations(flat, flat)[0] == 0


def test_a_picture_is_itself():
    picture = thumbnail(scene(3))
    assert registered_correlations(picture, picture, np.asarray([0]))[0] == pytest.approx(
        1, abs=1e-5
    )
    assert correlations(picture, picture)[0] == pytest.approx(1, abs=1e-5)


def test_no_pairs_are_no_trouble():
    none = np.empty((0, 16, 16), np.uint8)
    assert registered_correlations(none, none, np.empty(0, np.int64)).shape == (0,)
    assert correlations(none, none).shape == (0,)
    assert hashes(none).shape == (0,)
