"""Confident learning's answer, beside cleanlab's own."""

import numpy as np
import pytest
from cleanlab.count import compute_confident_joint
from hypothesis import given
from hypothesis import strategies as st

from acclimate.inspection.folds import dealt
from acclimate.inspection.label_errors import judge

SEEDS = st.integers(0, 10_000)


def guesses(seed, n=200, classes=4, sharp=3.0):
    """Labels, a tenth of them wrong, and what a head might say."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(n) % classes)
    logits = rng.normal(0, 1, (n, classes))
    logits[np.arange(n), truth] += sharp
    labels = truth.copy()
    wrong = rng.choice(n, n // 10, replace=False)
    labels[wrong] = (truth[wrong] + rng.integers(1, classes, len(wrong))) % classes
    powers = np.exp(logits)
    return labels, (powers / powers.sum(1, keepdims=True)).astype(np.float32), truth


def everybody(labels):
    return np.ones(len(labels), bool)


@given(seed=SEEDS)
def test_what_confident_learning_calls_wrong_is_called_so_where_the_score_says_so_too(seed):
    labels, said, _ = guesses(seed)
    verdict = judge(labels, said, everybody(labels), 0.9)
    _, theirs = compute_confident_joint(labels, said, return_indices_of_off_diagonals=True)
    sure = {row for row in theirs if verdict.score[row] >= 0.9}
    assert sure
    assert sure <= set(np.flatnonzero(verdict.wrong))


@given(seed=SEEDS)
def test_the_order_of_images_changes_nothing(seed):
    labels, said, _ = guesses(seed)
    turn = np.random.default_rng(seed).permutation(len(labels))
    one = judge(labels, said, everybody(labels), 0.7)
    other = judge(labels[turn], said[turn], everybody(labels), 0.7)
    assert np.array_equal(one.wrong[turn], other.wrong)
    assert np.allclose(one.score[turn], other.score)


@given(seed=SEEDS, least=st.floats(0.5, 1))
def test_a_higher_bar_never_flags_more(seed, least):
    labels, said, _ = guesses(seed)
    low = judge(labels, said, everybody(labels), 0.5)
    high = judge(labels, said, everybody(labels), least)
    assert not (high.wrong & ~low.wrong).any()
    assert (high.score[high.wrong] >= least).all()
    assert ((low.score >= 0) & (low.score <= 1)).all()


def test_the_better_class_is_never_the_given_one_and_mostly_the_true_one():
    labels, said, truth = guesses(0, sharp=5.0)
    verdict = judge(labels, said, everybody(labels), 0.9)
    assert (verdict.better != labels).all()
    assert (verdict.better == truth)[verdict.wrong].mean() > 0.9
    assert (labels != truth)[verdict.wrong].mean() > 0.9
    assert verdict.wrong[labels != truth].mean() > 0.8


def test_images_that_are_not_known_set_no_threshold():
    labels, said, _ = guesses(1)
    known = np.arange(len(labels)) < 150
    shuffled = labels.copy()
    shuffled[150:] = (labels[150:] + 1) % 4
    one, other = (judge(found, said, known, 0.7) for found in (labels, shuffled))
    assert np.array_equal(one.wrong[:150], other.wrong[:150])
    everyone = judge(shuffled, said, everybody(labels), 0.7)
    assert not np.array_equal(everyone.wrong[:150], one.wrong[:150])


def test_a_class_that_nobody_is_known_of_is_never_suggested():
    labels, said, _ = guesses(2)
    known = labels != 3
    verdict = judge(labels, said, known, 0.5)
    assert not (verdict.better[verdict.wrong] == 3).any()


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_are_stratified_and_keep_clusters_whole(dataset, folds):
    rows = dataset.rows("train")
    cluster = [None] * len(dataset)
    for row in rows[:7]:
        cluster[row] = 3
    fold = dealt(dataset.with_columns({"cluster": cluster}), rows, folds, np.random.default_rng(0))
    assert len(set(fold[rows[:7]])) == 1
    assert set(fold[rows]) == set(range(folds))
    others = np.setdiff1d(np.arange(len(dataset)), rows)
    assert (fold[others] == -1).all()
    for label in range(5, 10):
        counts = np.bincount(fold[rows[dataset.labels[rows] == label]], minlength=folds)
        assert counts.max() - counts.min() <= 1
