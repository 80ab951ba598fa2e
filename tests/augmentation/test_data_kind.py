"""The kind of data: what pixels and class names say before any test."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from acclimate.augmentation.data_kind import are_characters, exchanged_classes, kind_of

RNG = np.random.default_rng(0)


def photograph(seed):
    """Smooth colors with noise, as a photograph has."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
    smooth = np.asarray(coarse.resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def grey(seed):
    """An X-ray: continuous tones without color."""
    return np.repeat(photograph(seed).mean(2, keepdims=True), 3, 2).astype(np.uint8)


def drawing(seed):
    image = Image.new("RGB", (64, 64), (250, 240, 10))
    ImageDraw.Draw(image).ellipse((10 + seed, 10, 40, 50), fill=(200, 0, 0))
    return np.asarray(image)


@pytest.mark.parametrize(
    ("make", "color", "photographs"),
    [(photograph, True, True), (grey, False, False), (drawing, True, False)],
)
def test_pixels_tell_photographs_from_scans_and_drawings(make, color, photographs):
    kind = kind_of([make(seed) for seed in range(8)], ["cat", "dog"])
    assert (kind.color, kind.photographs, kind.mirrors) == (color, photographs, photographs)


def test_a_few_grey_images_among_photographs_change_nothing():
    images = [*map(photograph, range(8)), grey(9), drawing(3)]
    assert kind_of(images, ["cat", "dog"]).mirrors


@pytest.mark.parametrize(
    ("classes", "characters"),
    [
        ([str(digit) for digit in range(10)], True),
        (["zero", "one", "two", "three", "four"], True),
        (["digit_0", "digit_1", "digit_2", "digit_3", "digit_4"], True),
        (["letter A", "letter B", "letter C", "letter D", "letter E"], True),
        (["a", "b", "c", "d", "cat"], False),
        (["0", "1"], False),  # no and yes
        (["101", "102", "103", "104", "105"], False),  # identifiers
    ],
)
def test_classes_may_be_named_for_characters(classes, characters):
    assert are_characters(classes) is characters
    kind = kind_of([photograph(seed) for seed in range(4)], classes)
    assert kind.mirrors is not characters


@pytest.mark.parametrize(
    ("classes", "flip", "pair"),
    [
        (["left arrow", "right arrow", "stop"], "horizontal_flip", ("left arrow", "right arrow")),
        (["turnLeft", "turnRight"], "horizontal_flip", ("turnLeft", "turnRight")),
        (["hand_L", "hand_R"], "horizontal_flip", ("hand_L", "hand_R")),
        (["clockwise", "counter-clockwise"], "vertical_flip", ("clockwise", "counter-clockwise")),
        (["up", "down"], "vertical_flip", ("up", "down")),
        (["up", "down"], "horizontal_flip", None),
        (["left-handed", "bright"], "horizontal_flip", None),
    ],
)
def test_a_flip_may_exchange_two_classes_by_their_names(classes, flip, pair):
    assert exchanged_classes(classes, flip) == pair
    if pair and flip == "horizontal_flip":
        assert not kind_of([photograph(seed) for seed in range(4)], classes).mirrors
