"""Flipped images are distinguished from original ones if they do not occur in the data."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

from acclimate.augmentation.flip_symmetry import flips_detected, gradient_histograms
from acclimate.augmentation.operations import vertical_flip
from acclimate.data.images.fast_resize import flip_horizontal


def rng_of(seed=0):
    return np.random.default_rng(seed)


def scans(count):
    """Real digits, 64 px."""
    bunch = load_digits()
    chosen = rng_of(3).permutation(len(bunch.images))[:count]
    pictures = [
        np.asarray(
            Image.fromarray((bunch.images[i] * 15.9).astype(np.uint8))
            .resize((64, 64))
            .convert("RGB")
        )
        for i in chosen
    ]
    return pictures, bunch.target[chosen]


def blots(count, lean=0):
    """Ellipses at random places, leaning both ways equally often, or one way."""
    rng = rng_of(5)
    pictures = []
    for _ in range(count):
        image = Image.new("RGB", (64, 64), tuple(rng.integers(120, 256, 3).tolist()))
        x, y, w, h = rng.integers(8, 30), rng.integers(8, 30), *rng.integers(8, 30, 2)
        fill = tuple(rng.integers(0, 120, 3).tolist())
        ImageDraw.Draw(image).ellipse((x, y, x + w, y + h), fill=fill)
        ground = image.getpixel((0, 0))
        angle = lean if lean else rng.uniform(-60, 60)
        pictures.append(np.asarray(image.rotate(angle, fillcolor=ground)))
    return pictures, np.arange(count) % 3


@pytest.mark.parametrize("flip", [flip_horizontal, vertical_flip])
def test_flipped_digits_are_detected(flip):
    assert flips_detected(*scans(150), flip, rng_of()).mean() > 0.85


@pytest.mark.parametrize("flip", [flip_horizontal, vertical_flip])
def test_flips_of_symmetric_classes_are_not_detected(flip):
    assert 0.35 < flips_detected(*blots(150), flip, rng_of()).mean() < 0.65


def test_images_equal_to_their_mirror_image_count_as_chance():
    pictures = [np.full((32, 32, 3), level, np.uint8) for level in range(100)]
    detected = flips_detected(pictures, np.zeros(100, np.int64), flip_horizontal, rng_of())
    assert 0.35 < detected.mean() < 0.65


def test_colors_do_not_count():
    picture = scans(1)[0][0]
    assert np.allclose(gradient_histograms(picture), gradient_histograms(255 - picture), atol=0.02)
    assert np.isclose(np.linalg.norm(gradient_histograms(picture)), 1, atol=1e-3)
    assert not gradient_histograms(np.zeros((9, 9, 3), np.uint8)).any()


def test_the_same_seed_gives_the_same_result():
    first, again = (flips_detected(*scans(60), flip_horizontal, rng_of(1)) for _ in range(2))
    assert np.array_equal(first, again)
