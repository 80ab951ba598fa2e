"""Heads by nearness: what is known of an image's own part never tells about it."""

import numpy as np
import pytest

from acclimate.features.fit_head import Examples
from acclimate.features.kernel import Landmarks, fit_folds, root_normalized

FOLDS, CLASSES = 4, 3


@pytest.fixture
def known():
    """Three clouds of 60 images each, in 20 features, as a network's last layer gives them."""
    rng = np.random.default_rng(0)
    labels = np.arange(180) % CLASSES
    middles = rng.exponential(1, (CLASSES, 20))
    features = np.maximum(0, middles[labels] + rng.normal(0, 0.6, (180, 20)))
    return Examples(features.astype(np.float32), labels)


def folds_of(known):
    return np.random.default_rng(1).integers(0, FOLDS, len(known.labels))


def fitted(known, landmarks=None, fold_of=None):
    places = Landmarks.of(known.features if landmarks is None else landmarks, 20)
    fold_of = folds_of(known) if fold_of is None else fold_of
    return fit_folds(known, fold_of, places, folds=FOLDS, num_classes=CLASSES)


def out_of_part(known, heads):
    said = np.empty((len(known.labels), CLASSES), np.float32)
    for number, head in enumerate(heads):
        own = folds_of(known) == number
        said[own] = head(known.features[own])
    return said


def test_with_every_image_a_landmark_it_is_kernel_ridge_regression_itself(known):
    """Written down from the books: (K + 0.3 I)^-1 on the centred labels of the other parts."""
    unit = root_normalized(known.features).astype(np.float64)
    distance = 1 - unit @ unit.T
    kernel = np.exp(-2 * distance / np.median(distance[np.triu_indices(180, 1)]))
    wanted = np.eye(CLASSES)[known.labels]
    for number, head in enumerate(fitted(known)):
        held = folds_of(known) == number
        among = kernel[~held][:, ~held] + 0.3 * np.eye((~held).sum())
        mean = wanted[~held].mean(0)
        expected = kernel[held][:, ~held] @ np.linalg.solve(among, wanted[~held] - mean) + mean
        assert np.allclose(head(known.features[held]), expected, atol=5e-3)


def test_labels_of_a_part_do_not_reach_its_own_head(known):
    held = folds_of(known) == 2
    turned = Examples(known.features, np.where(held, (known.labels + 1) % CLASSES, known.labels))
    before, after = fitted(known), fitted(turned)
    assert np.allclose(before[2](known.features), after[2](known.features), atol=1e-3)
    assert not np.allclose(before[1](known.features), after[1](known.features), atol=1e-2)


def test_a_few_landmarks_tell_classes_apart_nearly_as_well_as_all(known):
    some = known.features[np.random.default_rng(2).choice(180, 45, replace=False)]
    right = [
        (out_of_part(known, heads).argmax(1) == known.labels).mean()
        for heads in (fitted(known), fitted(known, some))
    ]
    assert right[0] > 0.9
    assert right[1] > right[0] - 0.05


def test_what_the_network_knew_halfway_tells_classes_apart_that_its_last_features_do_not(known):
    """The last features are noise; the middle ones, loud and far from zero, show the class."""
    rng = np.random.default_rng(3)
    noise = rng.random((180, 20), np.float32)
    middle = 500 + 9 * known.features
    deep = Examples(np.hstack([noise, middle]), known.labels)
    blind = Examples(noise, known.labels)
    right = [
        (out_of_part(one, fitted(one)).argmax(1) == known.labels).mean() for one in (blind, deep)
    ]
    assert right[0] < 0.5
    assert right[1] > 0.8


def test_copies_among_the_landmarks_are_no_failure(known):
    heads = fitted(known, np.repeat(known.features[:30], 3, axis=0))
    assert np.isfinite(out_of_part(known, heads)).all()


def test_images_that_all_look_the_same_are_no_failure_and_say_how_many_each_class_has(known):
    rng = np.random.default_rng(4)
    same = known.features[:1] + rng.normal(0, 1e-5, known.features.shape).astype(np.float32)
    for number, head in enumerate(fitted(Examples(same, known.labels))):
        others = known.labels[folds_of(known) != number]
        folds = np.bincount(others, minlength=CLASSES) / len(others)
        assert np.allclose(head(same), folds, atol=0.1)  # nobody is sure


def test_a_class_that_stands_in_one_part_alone_is_not_expected_by_that_parts_head(known):
    fold_of = np.where(known.labels == 1, 0, 1 + np.arange(180) % (FOLDS - 1))
    head = fitted(known, fold_of=fold_of)[0]
    assert np.abs(head(known.features)[:, 1]).max() < 1e-3


def test_a_loud_channel_does_not_outweigh_all_others():
    plain = np.ones((1, 50), np.float32)
    loud = plain.copy()
    loud[0, 0] = 50
    cosine = float((root_normalized(plain) @ root_normalized(loud).T)[0, 0])
    usual = 99 / np.sqrt(50 * (49 + 2500))
    assert cosine > 0.78 > usual
