"""The contract of every operation."""

import random
import typing
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from acclimate.augmentation.operations import OPERATIONS
from acclimate.augmentation.settings import PHOTO_OPERATIONS, OperationName

SHAPES = [(1, 1), (1, 7), (9, 2), (64, 64), (48, 65)]
STRENGTHS = [0.0, 0.01, 0.3, 1.0]

every = pytest.mark.parametrize("name", OPERATIONS)


def picture(height=48, width=65, seed=3):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def digit(shifted):
    """A real scan on a colored background."""
    with Image.open(sorted(shifted.glob("3/*.png"))[0]) as image:
        return np.asarray(image.convert("RGB"))


def rng_of(seed):
    return np.random.default_rng(seed)


def test_the_suite_covers_all_eighteen_operations():
    assert set(OPERATIONS) == set(typing.get_args(OperationName))
    assert len(OPERATIONS) == 18
    assert set(PHOTO_OPERATIONS) < set(OPERATIONS)


@every
@pytest.mark.parametrize("shape", SHAPES)
def test_shape_and_type_stay(name, shape):
    for strength in STRENGTHS:
        changed = OPERATIONS[name](picture(*shape), strength, rng_of(0))
        assert changed.shape == (*shape, 3)
        assert changed.dtype == np.uint8


@every
def test_a_seed_repeats_the_image(name, digit):
    first, again = (OPERATIONS[name](digit, 0.7, rng_of(5)) for _ in range(2))
    assert np.array_equal(first, again)


@every
@pytest.mark.parametrize("shape", SHAPES)
def test_strength_zero_changes_no_pixel(name, shape):
    image = picture(*shape)
    for seed in range(5):
        assert np.array_equal(OPERATIONS[name](image, 0.0, rng_of(seed)), image)


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "identity"])
def test_strength_one_changes_a_real_image(name, digit):
    assert any(
        not np.array_equal(OPERATIONS[name](digit, 1.0, rng_of(seed)), digit) for seed in range(3)
    )


def test_identity_changes_nothing_at_any_strength(digit):
    assert all(
        np.array_equal(OPERATIONS["identity"](digit, s, rng_of(0)), digit) for s in STRENGTHS
    )


@every
def test_the_given_image_is_not_changed_in_place(name):
    image = picture()
    kept = image.copy()
    for strength in STRENGTHS:
        OPERATIONS[name](image, strength, rng_of(1))
    assert np.array_equal(image, kept)
    image.flags.writeable = False
    assert OPERATIONS[name](image, 1.0, rng_of(1)).shape == image.shape


@every
def test_threads_give_the_same_images_as_a_loop(name):
    jobs = [(picture(24, 24, seed), seed) for seed in range(40)]

    def change(job):
        image, seed = job
        return OPERATIONS[name](image, 0.8, rng_of(seed))

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(change, jobs))
    assert all(np.array_equal(a, change(job)) for a, job in zip(together, jobs, strict=True))


@every
def test_only_the_given_generator_is_used(name):
    def globals_now():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    before = globals_now()
    OPERATIONS[name](picture(), 1.0, rng_of(0))
    assert globals_now() == before
