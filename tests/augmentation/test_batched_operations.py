"""A batch augmented on its device equals its images augmented alone by the threads."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images

from acclimate.augmentation.batched_operations import BATCHED, apply_batch, finish_batch
from acclimate.augmentation.mixing import mix
from acclimate.augmentation.operations import OPERATIONS, size_of
from acclimate.augmentation.policy import POLICIES
from acclimate.data.images.contract import InputContract

CPU = torch.device("cpu")
CONTRACT = InputContract(64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", 1.0)
EXACT = {
    "identity", "translate_x", "translate_y", "brightness", "contrast", "color", "sharpness",
    "posterize", "solarize", "equalize", "invert", "noise", "erase",
}  # fmt: skip
"""On integers, or in single precision in both; the others are within one level."""
BEYOND = {"shear_x": 2.6, "shear_y": 2.6, "rotate": 4.5, "posterize": 1.5, "brightness": 1.1}
"""TrivialAugment's strengths."""

every = pytest.mark.parametrize("name", OPERATIONS)


@pytest.fixture(scope="module")
def photos():
    """Two real photos at 96 px."""
    return [np.asarray(Image.fromarray(p).resize((96, 96))) for p in load_sample_images().images]


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def flat(level, side=16):
    return np.full((side, side, 3), level, np.uint8)


def both(name, image, strengths, seeds=4):
    """Each alone, and all of them in one batch: int64, (n, H, W, 3)."""
    operation, side = OPERATIONS[name], size_of(image)
    params_list = [
        operation.sample(side, strength, np.random.default_rng(seed))
        for strength in strengths
        for seed in range(seeds)
    ]
    alone = np.stack([operation.apply(image, params) for params in params_list])
    pictures = (
        torch.from_numpy(np.stack([image] * len(params_list))).permute(0, 3, 1, 2).contiguous()
    )
    together = BATCHED[name](pictures, params_list)
    assert together.dtype == torch.uint8
    return alone.astype(int), together.permute(0, 2, 3, 1).numpy().astype(int)


def test_every_operation_has_a_version_for_batches():
    assert BATCHED.keys() == OPERATIONS.keys()
    assert len(BATCHED) == 18


@every
def test_photos_in_a_batch_become_what_they_become_alone(name, photos):
    for photo in photos:
        alone, together = both(name, photo, (0.0, 0.1, 0.5, 1.0, BEYOND.get(name, 1.0)))
        apart = np.abs(alone - together)
        assert apart.max() <= (0 if name in EXACT else 1)
        assert apart.mean() < 0.05
        changed = (alone != photo).any((1, 2, 3))
        assert changed.any() == (name != "identity")


@every
@pytest.mark.parametrize(
    "image",
    [
        noise(1, 1),
        noise(2, 5),
        noise(3, 3),
        noise(48, 65),
        flat(0),
        flat(255),
        flat(7),
        noise(1, 9),
    ],
    ids=["1x1", "2x5", "3x3", "48x65", "black", "white", "flat", "1x9"],
)
def test_small_and_flat_images_become_what_they_become_alone(name, image):
    alone, together = both(name, image, (0.0, 0.3, 1.0))
    assert np.abs(alone - together).max() <= (0 if name in EXACT else 1)


@every
def test_strength_zero_changes_no_pixel(name, photos):
    _, together = both(name, photos[0], (0.0,))
    assert (together == photos[0]).all()


@settings(deadline=None, max_examples=40)
@given(
    levels=st.lists(st.integers(0, 255), min_size=4, max_size=4),
    name=st.sampled_from(["equalize", "autocontrast"]),
    side=st.integers(1, 40),
    seed=st.integers(0, 2**32),
)
def test_histograms_of_few_levels_are_stretched_as_pillow_does(levels, name, side, seed):
    image = np.random.default_rng(seed).choice(np.asarray(levels, np.uint8), (side, side, 3))
    alone, together = both(name, image, (1.0,), seeds=1)
    assert np.abs(alone - together).max() <= (name == "autocontrast")


def sampled_transforms(policy, images, seed=0):
    return [
        policy.sample_transform(size_of(image), np.random.default_rng((seed, index)))
        for index, image in enumerate(images)
    ]


def alone_and_together(policy, images, seed=0):
    drawn = sampled_transforms(policy, images, seed)
    alone = np.stack([one.apply(image) for one, image in zip(drawn, images, strict=True)])
    return alone.astype(int), apply_batch(torch.from_numpy(np.stack(images)), drawn).numpy().astype(
        int
    )


EVERYTHING = replace(
    POLICIES["randaugment"], operations=tuple(OPERATIONS), color=0.4, erasing=0.3, vary=True
)
WHOLE = {
    **POLICIES,
    "everything": EVERYTHING,
    "chains of everything": replace(EVERYTHING, chains=2),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_policy_does_the_same_to_a_batch_as_to_each_image(name, photos):
    images = [photos[index % 2] for index in range(48)]
    alone, together = alone_and_together(WHOLE[name], images)
    apart = np.abs(alone - together)
    # A level of rounding is stretched by what comes after: a contrast, an inverted half.
    assert apart.mean() < 0.1
    assert (apart > 2).mean() < 0.005
    assert (np.abs(alone - np.stack(images)).max() > 50) == (name != "none")


def test_a_batch_is_not_changed_in_place_and_repeats_with_its_seed(photos):
    images = torch.from_numpy(np.stack([photos[0]] * 8))
    before = images.clone()
    first, again, other = (
        apply_batch(images, sampled_transforms(EVERYTHING, images.numpy(), seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(images, before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_image_does_not_depend_on_the_rest_of_the_batch(photos):
    images = np.stack([photos[index % 2] for index in range(12)])
    drawn = sampled_transforms(EVERYTHING, images)
    whole = apply_batch(torch.from_numpy(images), drawn)
    pairs = [
        apply_batch(torch.from_numpy(images[i : i + 2]), drawn[i : i + 2]) for i in range(0, 12, 2)
    ]
    assert (whole.int() - torch.cat(pairs).int()).abs().max() <= 1


def test_consistency_views_are_stacked_after_the_plain_one(photos):
    policy = POLICIES["augmix"]
    partial = [
        policy.partial_view(Image.fromarray(photo), CONTRACT, np.random.default_rng(seed))
        for seed, photo in enumerate(photos * 4)
    ]
    plain = np.stack([one.pixels for one in partial])
    found = finish_batch(plain, [one.transforms for one in partial], CPU)
    wanted = np.stack([one.finish() for one in partial])
    assert found.shape == (8, 3, 64, 64, 3)
    assert np.array_equal(found[:, 0], plain)
    assert np.abs(found.numpy().astype(int) - wanted).mean() < 0.1
    assert not torch.equal(found[:, 1], found[:, 2])


@pytest.mark.parametrize("fields", [{"mixup": 0.4}, {"cutmix": 1.0}])
def test_a_batch_is_mixed_on_a_device_as_in_memory(fields, photos):
    policy = replace(POLICIES["basic"], **fields)
    images, labels = np.stack(photos * 3), np.array([0, 1, 2, 0, 1, -1])
    here = mix(images, labels, 3, policy, np.random.default_rng(5))
    there = mix(torch.from_numpy(images), labels, 3, policy, np.random.default_rng(5))
    assert isinstance(there.images, torch.Tensor)
    assert np.abs(there.images.numpy().astype(int) - here.images).max() <= 1
    assert np.array_equal(there.targets, here.targets)
    assert not np.array_equal(here.images, images)
