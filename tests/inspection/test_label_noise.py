"""The threshold follows the estimated number of wrong labels, on synthetic predictions."""

import numpy as np
import pytest

from acclimate.inspection.label_errors import find_label_issues, label_noise

CLASSES = 5


def sample(rate, *, size=1000, similar=False, sharp=3.0, seed=0):
    """Labels, some wrong, the true ones, and predictions of classifiers that learnt the labels."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(size) % CLASSES)
    labels = truth.copy()
    wrong = rng.choice(size, round(rate * size), replace=False)
    step = 1 if similar else rng.integers(1, CLASSES, len(wrong))
    labels[wrong] = (truth[wrong] + step) % CLASSES
    powers = rng.normal(0, 1, (size, CLASSES))
    powers[np.arange(size), truth] += sharp
    powers = np.exp(powers)
    right = powers / powers.sum(1, keepdims=True)
    confusion = np.stack([np.bincount(labels[truth == c], minlength=CLASSES) for c in range(5)])
    learnt = right @ (confusion / confusion.sum(1, keepdims=True))
    return labels, truth, learnt.astype(np.float32)


def noise_of(labels, probabilities):
    return label_noise(labels, probabilities, np.random.default_rng(0))


def flags(labels, probabilities, threshold):
    known = np.ones(len(labels), bool)
    return find_label_issues(labels, probabilities, known, threshold).is_issue


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2, 0.4])
def test_the_number_of_wrong_labels_is_estimated(rate):
    labels, _, probabilities = sample(rate)
    noise = noise_of(labels, probabilities)
    assert noise.fewest <= noise.most
    assert noise.most == pytest.approx(1000 * rate, rel=0.35)
    assert noise.fewest >= 0.5 * 1000 * rate


def test_mistakes_for_one_similar_class_are_counted_by_the_upper_estimate():
    labels, _, probabilities = sample(0.3, similar=True)
    assert noise_of(labels, probabilities).most == pytest.approx(300, rel=0.35)


def test_right_labels_are_estimated_to_be_right():
    labels, _, probabilities = sample(0.0, sharp=5.0)
    noise = noise_of(labels, probabilities)
    assert noise.most <= 10
    assert noise.threshold <= 0.9


def test_few_wrong_labels_leave_the_threshold_where_it_was():
    labels, truth, probabilities = sample(0.05)
    noise = noise_of(labels, probabilities)
    flagged = flags(labels, probabilities, noise.threshold)
    usual = flags(labels, probabilities, 0.9)
    assert noise.threshold > 0.8
    assert (labels != truth)[flagged].mean() >= (labels != truth)[usual].mean() - 0.1


def test_many_wrong_labels_are_mostly_found_though_their_scores_are_low():
    labels, truth, probabilities = sample(0.4)
    noise = noise_of(labels, probabilities)
    flagged = flags(labels, probabilities, noise.threshold)
    wrong = labels != truth
    assert flags(labels, probabilities, 0.9)[wrong].mean() < 0.2
    assert flagged[wrong].mean() > 0.75
    assert wrong[flagged].mean() > 0.75
    expected = noise.precision(noise.threshold)
    assert 0 < expected.low <= expected.high <= 1
    assert expected.low - 0.1 <= wrong[flagged].mean() <= expected.high + 0.1


def test_more_labels_are_never_flagged_than_are_estimated_to_be_wrong():
    labels, _, probabilities = sample(0.45, similar=True, sharp=1.5)
    noise = noise_of(labels, probabilities)
    assert noise.threshold > 0
    assert flags(labels, probabilities, noise.threshold).sum() <= noise.most + 1


def test_the_same_seed_gives_the_same_estimate():
    labels, _, probabilities = sample(0.2)
    one, other = noise_of(labels, probabilities), noise_of(labels, probabilities)
    assert (one.fewest, one.most, one.threshold) == (other.fewest, other.most, other.threshold)


def test_small_classes_are_not_judged():
    labels, _, probabilities = sample(0.1, size=29 * CLASSES)
    assert noise_of(labels, probabilities) is None


def test_classes_that_are_absent_do_not_matter():
    labels, _, probabilities = sample(0.2)
    padded = np.pad(probabilities, ((0, 0), (1, 1)))
    one, other = noise_of(labels, probabilities), noise_of(labels + 1, padded)
    assert one.threshold == other.threshold
