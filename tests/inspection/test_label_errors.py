"""Label issues, compared with cleanlab's own result."""

import numpy as np
import pytest
from cleanlab.count import compute_confident_joint
from hypothesis import given
from hypothesis import strategies as st

from acclimate.inspection.folds import stratified_folds
from acclimate.inspection.label_errors import find_label_issues

SEEDS = st.integers(0, 10_000)


def sample(seed, n=200, classes=4, sharp=3.0):
    """Labels, a tenth of them wrong, and plausible probabilities."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(n) % classes)
    logits = rng.normal(0, 1, (n, classes))
    logits[np.arange(n), truth] += sharp
    labels = truth.copy()
    wrong = rng.choice(n, n // 10, replace=False)
    labels[wrong] = (truth[wrong] + rng.integers(1, classes, len(wrong))) % classes
    powers = np.exp(logits)
    return labels, (powers / powers.sum(1, keepdims=True)).astype(np.float32), truth


def all_known(labels):
    return np.ones(len(labels), bool)


@given(seed=SEEDS)
def test_cleanlabs_issues_above_the_threshold_are_issues_here_too(seed):
    labels, probabilities, _ = sample(seed)
    issues = find_label_issues(labels, probabilities, all_known(labels), 0.9)
    _, theirs = compute_confident_joint(labels, probabilities, return_indices_of_off_diagonals=True)
    sure = {row for row in theirs if issues.score[row] >= 0.9}
    assert sure
    assert sure <= set(np.flatnonzero(issues.is_issue))


@given(seed=SEEDS)
def test_the_order_of_images_changes_nothing(seed):
    labels, probabilities, _ = sample(seed)
    turn = np.random.default_rng(seed).permutation(len(labels))
    one = find_label_issues(labels, probabilities, all_known(labels), 0.7)
    other = find_label_issues(labels[turn], probabilities[turn], all_known(labels), 0.7)
    assert np.array_equal(one.is_issue[turn], other.is_issue)
    assert np.allclose(one.score[turn], other.score)


@given(seed=SEEDS, threshold=st.floats(0.5, 1))
def test_a_higher_threshold_never_flags_more(seed, threshold):
    labels, probabilities, _ = sample(seed)
    low = find_label_issues(labels, probabilities, all_known(labels), 0.5)
    high = find_label_issues(labels, probabilities, all_known(labels), threshold)
    assert not (high.is_issue & ~low.is_issue).any()
    assert (high.score[high.is_issue] >= threshold).all()
    assert ((low.score >= 0) & (low.score <= 1)).all()


def test_the_suggested_class_is_never_the_given_one_and_mostly_the_true_one():
    labels, probabilities, truth = sample(0, sharp=5.0)
    issues = find_label_issues(labels, probabilities, all_known(labels), 0.9)
    assert (issues.suggested != labels).all()
    assert (issues.suggested == truth)[issues.is_issue].mean() > 0.9
    assert (labels != truth)[issues.is_issue].mean() > 0.9
    assert issues.is_issue[labels != truth].mean() > 0.8


def test_images_that_are_not_known_set_no_threshold():
    labels, probabilities, _ = sample(1)
    known = np.arange(len(labels)) < 150
    shuffled = labels.copy()
    shuffled[150:] = (labels[150:] + 1) % 4
    one, other = (
        find_label_issues(found, probabilities, known, 0.7) for found in (labels, shuffled)
    )
    assert np.array_equal(one.is_issue[:150], other.is_issue[:150])
    everyone = find_label_issues(shuffled, probabilities, all_known(labels), 0.7)
    assert not np.array_equal(everyone.is_issue[:150], one.is_issue[:150])


def test_a_class_without_known_images_is_never_suggested():
    labels, probabilities, _ = sample(2)
    known = labels != 3
    issues = find_label_issues(labels, probabilities, known, 0.5)
    assert not (issues.suggested[issues.is_issue] == 3).any()


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_are_stratified_and_keep_clusters_whole(dataset, folds):
    rows = dataset.rows("train")
    cluster = [None] * len(dataset)
    for row in rows[:7]:
        cluster[row] = 3
    fold = stratified_folds(
        dataset.with_columns({"cluster": cluster}), rows, folds, np.random.default_rng(0)
    )
    assert len(set(fold[rows[:7]])) == 1
    assert set(fold[rows]) == set(range(folds))
    others = np.setdiff1d(np.arange(len(dataset)), rows)
    assert (fold[others] == -1).all()
    for label in range(5, 10):
        counts = np.bincount(fold[rows[dataset.labels[rows] == label]], minlength=folds)
        assert counts.max() - counts.min() <= 1
