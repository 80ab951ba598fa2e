"""Mixed images have mixed labels, in the proportion of their pixels."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.augmentation.mixing import mix, mixes
from acclimate.augmentation.policy import POLICIES

NOTHING = POLICIES["none"]
CLASSES = 5


def rng_of(seed=0):
    return np.random.default_rng(seed)


def flat(labels, side=40):
    """One flat image per label, with a level for each label."""
    levels = 50 * np.asarray(labels, np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (len(labels), side, side, 3)).copy()


@settings(deadline=None, max_examples=30)
@given(
    labels=st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=9),
    mixup=st.sampled_from([0.0, 0.2, 1.0]),
    cutmix=st.sampled_from([0.2, 1.0]),
    seed=st.integers(0, 2**32),
)
def test_targets_are_shares_and_repeat_with_their_seed(labels, mixup, cutmix, seed):
    policy = replace(NOTHING, mixup=mixup, cutmix=cutmix)
    given_images, ids = flat(labels), np.asarray(labels)
    kept = given_images.copy()
    first, again = (mix(given_images, ids, CLASSES, policy, rng_of(seed)) for _ in range(2))
    assert np.array_equal(given_images, kept)
    assert first.images.shape == kept.shape
    assert first.images.dtype == np.uint8
    assert first.targets.dtype == np.float32
    assert np.allclose(first.targets.sum(1), 1, atol=1e-5)
    assert first.targets.min() >= 0
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.targets, again.targets)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_a_label_has_the_share_of_its_pixels(name):
    """The mean level of an image equals that of its mixed label."""
    policy = replace(NOTHING, **{name: 1.0})
    labels = np.arange(CLASSES)
    mixed_at_all = 0
    for seed in range(40):
        mixed = mix(flat(labels), labels, CLASSES, policy, rng_of(seed))
        expected = 50 * (mixed.targets @ labels)
        assert np.allclose(mixed.images.mean((1, 2, 3)), expected, atol=0.6)
        mixed_at_all += int((mixed.targets.max(1) < 0.99).any())
    assert mixed_at_all > 30


def test_mixup_blends_and_cutmix_pastes():
    labels = np.asarray([0, 4])
    blends, pastes = 0, 0
    for seed in range(30):
        blended = mix(flat(labels), labels, CLASSES, replace(NOTHING, mixup=1.0), rng_of(seed))
        pasted = mix(flat(labels), labels, CLASSES, replace(NOTHING, cutmix=1.0), rng_of(seed))
        assert len(np.unique(blended.images[0])) == 1
        assert set(np.unique(pasted.images)) <= {0, 200}
        blends += int(0 < blended.images[0].mean() < 200)
        pastes += len(np.unique(pasted.images[0])) == 2
    assert blends > 5
    assert pastes > 5


def test_with_both_on_each_is_used_for_some_batches():
    both = replace(NOTHING, mixup=1.0, cutmix=1.0)
    labels = np.asarray([0, 4])
    levels = [
        np.unique(mix(flat(labels), labels, CLASSES, both, rng_of(s)).images) for s in range(60)
    ]
    pasted = sum(set(found) <= {0, 200} for found in levels)
    assert 20 < pasted < 55


def test_a_policy_mixes_only_if_set():
    assert not any(mixes(policy) for policy in POLICIES.values())
    assert mixes(replace(NOTHING, mixup=0.2))
    assert mixes(replace(NOTHING, cutmix=0.2))


def test_an_unlabelled_image_adds_nothing_to_the_targets():
    policy = replace(NOTHING, mixup=1.0)
    labels = np.asarray([0, -1, 2, -1])
    mixed = mix(flat([0, 1, 2, 3]), labels, CLASSES, policy, rng_of(1))
    assert mixed.targets[:, [1, 3, 4]].max() == 0
    assert (mixed.targets.sum(1) < 0.999).any()
    assert np.isclose(mixed.targets.sum(), 2)  # what two labelled images have to give
