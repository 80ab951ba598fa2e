"""Class statistics: two halves make the whole, they come back from disk, nonsense is refused."""

from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from acclimate.errors import ModelFileError
from acclimate.models.class_statistics import RANK, ClassStatistics


def measured(features, labels, classes=3):
    counts = np.bincount(labels, minlength=classes).astype(float)
    means = np.stack(
        [features[labels == c].mean(0) if counts[c] else np.zeros(features.shape[1])
         for c in range(classes)]
    )  # fmt: skip
    apart = features - means[labels]
    return ClassStatistics.of(counts, means, apart.T @ apart / len(features))


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    features = rng.normal(size=(200, 12)) @ rng.normal(size=(12, 12)) + 3 * labels[:, None]
    return features, labels


def test_few_features_lose_nothing(images):
    features, labels = images
    found = measured(features, labels)
    apart = features - found.means[labels]
    np.testing.assert_allclose(found.within(), apart.T @ apart / 200, atol=1e-4)


def test_more_features_than_the_rank_keep_every_variance():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(500, 2 * RANK)) * np.linspace(0.1, 3, 2 * RANK)
    found = measured(features, np.zeros(500, int), classes=1)
    assert found.factor.shape == (RANK, 2 * RANK)
    np.testing.assert_allclose(np.diag(found.within()), features.var(0), rtol=1e-3)
    whole, cut = np.linalg.eigvalsh(np.cov(features.T)), np.linalg.eigvalsh(found.within())
    assert cut[-1] == pytest.approx(whole[-1], rel=0.05)


@pytest.mark.parametrize("cut", [60, 199])
def test_two_halves_merged_are_the_whole(images, cut):
    features, labels = images
    parts = [measured(features[some], labels[some]) for some in (slice(cut), slice(cut, None))]
    merged, whole = parts[0].merged(parts[1]), measured(features, labels)
    assert merged.counts.tolist() == whole.counts.tolist()
    np.testing.assert_allclose(merged.means, whole.means, atol=1e-4)
    np.testing.assert_allclose(merged.within(), whole.within(), atol=1e-3)


def test_a_class_of_one_side_alone_stays_as_it_is(images):
    features, labels = images
    old = measured(features[labels < 2], labels[labels < 2], classes=2)
    new = measured(features[labels == 2], labels[labels == 2])
    merged = old.with_more_classes(3).merged(new)
    np.testing.assert_array_equal(merged.means[:2], old.means)
    np.testing.assert_allclose(merged.means, measured(features, labels).means, atol=1e-4)
    np.testing.assert_allclose(merged.within(), measured(features, labels).within(), atol=1e-3)


def test_held_features_are_kept_by_merging_and_come_back_in_sixteen_bits(images):
    features, labels = images
    held = features[:5].astype(np.float32)
    found = measured(features, labels).with_held_out(held, labels[:5])
    merged = found.merged(found)
    assert merged.held_labels.tolist() == [*labels[:5], *labels[:5]]
    back = ClassStatistics.from_bytes(found.as_bytes(), 3)
    np.testing.assert_array_equal(back.held, held.astype(np.float16))
    for name in ("counts", "means", "factor", "diagonal", "held_labels"):
        np.testing.assert_array_equal(getattr(back, name), getattr(found, name))
    assert back.as_bytes() == found.as_bytes()


WRONG = {
    "a class too few": lambda parts: parts.update(counts=parts["counts"][:2]),
    "a mean too long": lambda parts: parts.update(means=np.pad(parts["means"], ((0, 0), (0, 1)))),
    "no number": lambda parts: parts["means"].fill(np.nan),
    "a negative variance": lambda parts: parts["diagonal"].fill(-1),
    "an unknown class": lambda parts: parts["held_labels"].fill(3),
    "a label that is a fraction": lambda parts: parts.update(
        held_labels=parts["held_labels"].astype(np.float32)
    ),
    "a part is missing": lambda parts: parts.pop("factor"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_numbers_that_cannot_be_are_refused(images, fault):
    features, labels = images
    found = measured(features, labels).with_held_out(features[:5].astype(np.float32), labels[:5])
    parts = {name: array.copy() for name, array in safetensors.numpy.load(found.as_bytes()).items()}
    WRONG[fault](parts)
    with pytest.raises(ModelFileError, match="class statistics"):
        ClassStatistics.from_bytes(safetensors.numpy.save(parts), 3)


def test_what_is_no_safetensors_file_is_refused():
    with pytest.raises(ModelFileError, match="class statistics cannot be read"):
        ClassStatistics.from_bytes(b"not a file", 3)


def test_no_held_feature_is_no_fault(images):
    found = measured(*images)
    back = ClassStatistics.from_bytes(replace(found).as_bytes(), 3)
    assert back.held.shape == (0, 12)
