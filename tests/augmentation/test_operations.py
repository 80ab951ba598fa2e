"""What each operation does to an image, and its limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from acclimate.augmentation.operations import OPERATIONS

SEEDS = range(30)
images = arrays.arrays(
    np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3)), elements={}
)


def rng_of(seed=0):
    return np.random.default_rng(seed)


def square(inner=255, outer=0, size=40):
    """A bright square in the middle of a dark background."""
    image = np.full((size, size, 3), outer, np.uint8)
    image[size // 4 : -size // 4, size // 4 : -size // 4] = inner
    return image


def ramp(low=80, high=180):
    """Grey from one level to another, from left to right."""
    levels = np.linspace(low, high, 64).astype(np.uint8)
    return np.broadcast_to(levels[None, :, None], (32, 64, 3)).copy()


@settings(deadline=None, max_examples=30)
@given(image=images, seed=st.integers(0, 2**32))
def test_inverting_twice_gives_the_image_back(image, seed):
    once = OPERATIONS["invert"](image, 1.0, rng_of(seed))
    assert np.array_equal(once, 255 - image)
    assert np.array_equal(OPERATIONS["invert"](once, 1.0, rng_of(seed)), image)


@settings(deadline=None, max_examples=30)
@given(image=images)
def test_solarizing_at_full_strength_inverts_everything(image):
    assert np.array_equal(OPERATIONS["solarize"](image, 1.0, rng_of()), 255 - image)


def test_solarizing_by_half_inverts_only_the_bright_half():
    changed = OPERATIONS["solarize"](ramp(0, 255), 0.5, rng_of())
    dark = ramp(0, 255) < 128
    assert np.array_equal(changed[dark], ramp(0, 255)[dark])
    assert np.array_equal(changed[~dark], 255 - ramp(0, 255)[~dark])


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, 1.9, 2.5, 10.0])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_accepts_every_strength(name, strength):
    image = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)
    for seed in range(8):
        changed = OPERATIONS[name](image, strength, rng_of(seed))
        assert (changed.shape, changed.dtype) == (image.shape, image.dtype)


@settings(deadline=None, max_examples=30)
@given(image=images)
def test_posterizing_at_full_strength_leaves_four_bits(image):
    assert np.array_equal(OPERATIONS["posterize"](image, 1.0, rng_of()), image & 0xF0)


@pytest.mark.parametrize(("name", "axis"), [("translate_x", 1), ("translate_y", 0)])
def test_translation_stays_on_its_axis_and_within_45_percent(name, axis):
    spot = np.full((60, 100, 3), 128, np.uint8)
    spot[29:32, 49:52] = 255
    moves = []
    for seed in SEEDS:
        changed = OPERATIONS[name](spot, 1.0, rng_of(seed))
        found = np.argwhere(changed[..., 0] > 250).mean(0)
        moves.append(found - [30, 50])
    moves = np.asarray(moves)
    assert np.abs(moves[:, 1 - axis]).max() == 0
    furthest = np.abs(moves[:, axis]).max() / spot.shape[axis]
    assert 0.3 < furthest <= 0.46
    assert moves[:, axis].min() < 0 < moves[:, axis].max()


@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"])
def test_uncovered_corners_are_grey_and_never_black(name):
    white = np.full((40, 40, 3), 255, np.uint8)
    seen = np.concatenate([OPERATIONS[name](white, 1.0, rng_of(seed)).ravel() for seed in SEEDS])
    assert seen.min() >= 127
    assert (seen == 128).any()


def test_rotation_goes_both_ways_and_not_past_thirty_degrees():
    bar = np.zeros((101, 101, 3), np.uint8)
    bar[48:53, 5:96] = 255
    angles = []
    for seed in SEEDS:
        y, x = np.nonzero(OPERATIONS["rotate"](bar, 1.0, rng_of(seed))[..., 0] > 200)
        angles.append(np.degrees(np.arctan(np.polyfit(x, y, 1)[0])))
    assert max(map(abs, angles)) < 31
    assert min(angles) < -15
    assert max(angles) > 15


def test_brightness_goes_both_ways_and_never_to_black():
    grey = np.full((8, 8, 3), 100, np.uint8)
    levels = [int(OPERATIONS["brightness"](grey, 1.0, rng_of(seed)).mean()) for seed in SEEDS]
    assert 10 <= min(levels) < 60
    assert 140 < max(levels) <= 190


def test_color_keeps_grey_images_and_changes_colored_ones():
    assert np.array_equal(OPERATIONS["color"](ramp(), 1.0, rng_of(1)), ramp())
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 200
    assert not np.array_equal(OPERATIONS["color"](red, 1.0, rng_of(1)), red)


def test_contrast_keeps_the_mean_while_it_flattens():
    flatter = [OPERATIONS["contrast"](ramp(), 1.0, rng_of(seed)) for seed in SEEDS]
    spreads = [float(image.std()) for image in flatter]
    assert min(spreads) < ramp().std() / 2 < ramp().std() * 1.5 < max(spreads)
    assert all(abs(image.mean() - ramp().mean()) < 2 for image in flatter)


@pytest.mark.parametrize("name", ["autocontrast", "equalize"])
def test_levels_are_stretched_to_the_whole_range(name):
    changed = OPERATIONS[name](ramp(), 1.0, rng_of())
    assert changed.min() == 0
    assert changed.max() >= 254


@pytest.mark.parametrize("name", ["autocontrast", "equalize", "invert"])
def test_operations_without_degrees_are_applied_as_often_as_their_strength(name):
    changed = sum(
        not np.array_equal(OPERATIONS[name](ramp(), 0.3, rng_of(seed)), ramp())
        for seed in range(400)
    )
    assert 0.2 < changed / 400 < 0.4


def test_blur_softens_edges_and_keeps_the_brightness():
    def edge(image):
        return int(np.abs(np.diff(image[..., 0].astype(int), axis=1)).max())

    softest = min(
        (OPERATIONS["blur"](square(), 1.0, rng_of(seed)) for seed in SEEDS), key=lambda i: edge(i)
    )
    assert edge(softest) < edge(square()) / 2
    assert abs(float(softest.mean()) - float(square().mean())) < 2


def test_noise_is_bounded_and_has_no_drift():
    grey = np.full((64, 64, 3), 128, np.uint8)
    grains = [OPERATIONS["noise"](grey, 1.0, rng_of(seed)).astype(int) - 128 for seed in SEEDS]
    assert 20 < max(grain.std() for grain in grains) < 0.125 * 255
    assert abs(np.mean([grain.mean() for grain in grains])) < 1


def test_sharpness_softens_and_sharpens():
    soft = OPERATIONS["blur"](square(), 1.0, rng_of(1))
    spreads = [float(OPERATIONS["sharpness"](soft, 1.0, rng_of(seed)).std()) for seed in SEEDS]
    assert min(spreads) < soft.std() < max(spreads)


@pytest.mark.parametrize("name", ["shear_x", "shear_y", "rotate", "translate_x", "noise", "blur"])
def test_a_stronger_setting_changes_more(name):
    def change(strength):
        moved = [OPERATIONS[name](square(), strength, rng_of(seed)).astype(int) for seed in SEEDS]
        return np.mean([np.abs(image - square()).mean() for image in moved])

    assert 0 < change(0.2) < change(1.0)
