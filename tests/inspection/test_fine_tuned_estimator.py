"""Networks that were fine-tuned on the other folds check labels."""

from dataclasses import replace

import numpy as np
import pytest

from acclimate.augmentation.auto_policy import auto_policy
from acclimate.augmentation.settings import Augment
from acclimate.inspection import fine_tuned_estimator
from acclimate.inspection.feature_view import FeatureView
from acclimate.inspection.folds import Folds
from acclimate.inspection.inspect import inspect
from acclimate.inspection.settings import Inspect

FLIPS = Augment(operations_per_image=0, crop_area=1.0, color=0.0)
"""Flips alone are tested."""
SETTINGS = Inspect(checks=("label_errors",), estimators=("fine_tuning",), folds=2, epochs=2)


@pytest.fixture(scope="module")
def swapped(dataset):
    """The digits with some labels wrong: (data set, rows)."""
    rng = np.random.default_rng(1)
    rows = rng.choice(dataset.rows(), 15, replace=False)
    labels = dataset.table["label"].to_pylist()
    for row in rows:
        labels[row] = dataset.classes[(dataset.labels[row] + 1 + rng.integers(9)) % 10]
    return dataset.with_columns({"label": labels}), rows


@pytest.fixture(scope="module")
def given_policy(policy):
    """A given policy: the test on the data would take as long as these trainings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fine_tuned_estimator, "auto_policy", lambda *_, **__: policy)
        yield


def scores(found):
    return np.asarray(found.table["label_error"].to_numpy(zero_copy_only=False), np.float64)


@pytest.fixture(scope="module")
def found(headless, swapped, context, given_policy):
    return inspect(headless, swapped[0], SETTINGS, context=context)


def test_the_augmentation_is_tested_on_the_data(monkeypatch, headless, swapped, context):
    """Flipped digits are not digits."""
    policies = []

    def untrained(start, learnt, policy, *_, **__):
        policies.append(policy)
        return start

    monkeypatch.setattr(fine_tuned_estimator, "fine_tune", untrained)
    monkeypatch.setattr(
        fine_tuned_estimator,
        "auto_policy",
        lambda model, data, *, context: auto_policy(model, data, FLIPS, context=context),
    )
    view = FeatureView(headless, swapped[0], context, SETTINGS)
    fine_tuned_estimator.fine_tuned_logits(view, _halves(swapped[0]))
    assert len(policies) == 2
    assert not any(policy.horizontal_flip for policy in policies)
    assert all(policy.evidence for policy in policies)


def test_swapped_labels_score_highest(found, swapped):
    """Those of test too, which get the mean prediction of all networks."""
    score, home = scores(found), found.rows()
    assert np.isfinite(score[home]).all()
    others = np.setdiff1d(home, swapped[1])
    above = [(score[row] > score[others]).mean() for row in swapped[1]]
    assert np.mean(above) > 0.8


def test_the_predictions_of_both_estimators_are_averaged(
    found, headless, swapped, context, given_policy
):
    """If their scores differ, the common score lies between."""
    near = inspect(headless, swapped[0], Inspect(checks=SETTINGS.checks, folds=2), context=context)
    estimators = Inspect(**{**dict(SETTINGS), "estimators": ("kernel", "fine_tuning")})
    both = inspect(headless, swapped[0], estimators, context=context)
    home = found.rows()
    logits = np.stack([scores(near)[home], scores(found)[home]])
    apart = np.ptp(logits, axis=0) > 0.3
    assert apart.sum() >= 5
    between = scores(both)[home][apart]
    inside = (between > logits[:, apart].min(0)) & (between < logits[:, apart].max(0))
    assert inside.mean() > 0.8


def test_a_run_that_was_killed_continues_with_the_next_fold(
    monkeypatch, headless, swapped, context, tmp_path, given_policy
):
    trained = []

    def killed_in_the_second(start, learnt, *_, **__):
        trained.append(learnt.digest)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return start

    monkeypatch.setattr(fine_tuned_estimator, "fine_tune", killed_in_the_second)
    view = FeatureView(headless, swapped[0], replace(context, workspace=tmp_path), SETTINGS)
    folds = _halves(swapped[0])
    with pytest.raises(KeyboardInterrupt):
        fine_tuned_estimator.fine_tuned_logits(view, folds)
    logits = fine_tuned_estimator.fine_tuned_logits(view, folds)
    assert len(trained) == 3
    assert trained[1] == trained[2] != trained[0]
    with monkeypatch.context() as patch:
        patch.setattr(
            fine_tuned_estimator, "auto_policy", None
        )  # nothing is trained, so no policy is needed
        read = fine_tuned_estimator.fine_tuned_logits(view, folds)
    assert np.array_equal(logits, read)
    again = fine_tuned_estimator.fine_tuned_logits(replace(view, context=context), folds)
    assert np.array_equal(logits, again)
    labels = swapped[0].table["label"].to_pylist()
    other = replace(view, dataset=swapped[0].with_columns({"label": labels[::-1]}))
    fine_tuned_estimator.fine_tuned_logits(other, _halves(other.dataset))
    assert len(trained) == 7  # logits from other labels are not reused


def _halves(dataset):
    rows = dataset.rows("train")
    fold = np.full(len(dataset), -1)
    fold[rows] = np.arange(len(rows)) % 2
    return Folds(rows, rows, fold, 2)


def test_a_class_that_is_all_in_one_fold_is_learnt_too(headless, dataset, context, given_policy):
    """One cluster of near-duplicates may hold all of its images."""
    folds = _halves(dataset)
    fold = folds.fold.copy()
    threes = folds.known[dataset.labels[folds.known] == 3]
    fold[threes] = 0
    one = Inspect(estimators=("fine_tuning",), folds=2, epochs=1)
    view = FeatureView(headless, dataset, context, one)
    logits = fine_tuned_estimator.fine_tuned_logits(view, replace(folds, fold=fold))
    right = logits.argmax(1) == dataset.labels[folds.rows]
    assert right[np.isin(folds.rows, threes)].mean() > 0.5
