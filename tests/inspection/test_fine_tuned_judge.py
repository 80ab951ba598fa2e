"""Networks that were fine-tuned on the other parts judge labels."""

from dataclasses import replace

import numpy as np
import pytest

from acclimate.augmentation.auto_policy import safe_policy
from acclimate.inspection import fine_tuned_judge
from acclimate.inspection.feature_view import View
from acclimate.inspection.folds import Folds
from acclimate.inspection.inspect import inspect
from acclimate.inspection.settings import Inspect

SETTINGS = Inspect(looks=("label_errors",), judges=("fine_tuning",), folds=2, epochs=2)


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
def unasked(policy):
    """Takes a policy as given: asking the data takes as long as these trainings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fine_tuned_judge, "safe_policy", lambda *_, **__: policy)
        yield


def scores(found):
    return np.asarray(found.table["label_error"].to_numpy(zero_copy_only=False), np.float64)


@pytest.fixture(scope="module")
def found(imagenet, swapped, context, unasked):
    return inspect(imagenet, swapped[0], SETTINGS, context=context)


def test_the_data_is_asked_what_may_be_done_to_its_images(monkeypatch, imagenet, swapped, context):
    """Digits that are mirrored are others."""
    policies = []

    def untrained(start, learnt, policy, *_, **__):
        policies.append(policy)
        return start

    monkeypatch.setattr(fine_tuned_judge, "fine_tune", untrained)
    monkeypatch.setattr(fine_tuned_judge, "safe_policy", safe_policy)
    view = View(imagenet, swapped[0], context, SETTINGS)
    fine_tuned_judge.by_fine_tuning(view, _halves(swapped[0]))
    assert len(policies) == 2
    assert not any(policy.horizontal_flip for policy in policies)
    assert all(policy.evidence for policy in policies)


def test_swapped_labels_score_highest(found, swapped):
    """Those of test too, which all of the networks judge."""
    score, home = scores(found), found.rows()
    assert np.isfinite(score[home]).all()
    others = np.setdiff1d(home, swapped[1])
    above = [(score[row] > score[others]).mean() for row in swapped[1]]
    assert np.mean(above) > 0.8


def test_both_judges_answer_in_the_mean(found, imagenet, swapped, context, unasked):
    """Where one is sure and the other is not, the score lies between."""
    near = inspect(imagenet, swapped[0], Inspect(looks=SETTINGS.looks, folds=2), context=context)
    judges = Inspect(**{**dict(SETTINGS), "judges": ("nearness", "fine_tuning")})
    both = inspect(imagenet, swapped[0], judges, context=context)
    home = found.rows()
    said = np.stack([scores(near)[home], scores(found)[home]])
    apart = np.ptp(said, axis=0) > 0.3
    assert apart.sum() >= 5
    between = scores(both)[home][apart]
    inside = (between > said[:, apart].min(0)) & (between < said[:, apart].max(0))
    assert inside.mean() > 0.8


def test_a_run_that_was_killed_goes_on_after_what_was_said(
    monkeypatch, imagenet, swapped, context, tmp_path, unasked
):
    trained = []

    def killed_in_the_second(start, learnt, *_, **__):
        trained.append(learnt.digest)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return start

    monkeypatch.setattr(fine_tuned_judge, "fine_tune", killed_in_the_second)
    view = View(imagenet, swapped[0], replace(context, workspace=tmp_path), SETTINGS)
    folds = _halves(swapped[0])
    with pytest.raises(KeyboardInterrupt):
        fine_tuned_judge.by_fine_tuning(view, folds)
    said = fine_tuned_judge.by_fine_tuning(view, folds)
    assert len(trained) == 3
    assert trained[1] == trained[2] != trained[0]
    with monkeypatch.context() as patch:
        patch.setattr(
            fine_tuned_judge, "safe_policy", None
        )  # nothing is learnt, so nothing is asked
        read = fine_tuned_judge.by_fine_tuning(view, folds)
    assert np.array_equal(said, read)
    anew = fine_tuned_judge.by_fine_tuning(replace(view, context=context), folds)
    assert np.array_equal(said, anew)
    labels = swapped[0].table["label"].to_pylist()
    other = replace(view, dataset=swapped[0].with_columns({"label": labels[::-1]}))
    fine_tuned_judge.by_fine_tuning(other, _halves(other.dataset))
    assert len(trained) == 7  # what was said after other labels is of no use


def _halves(dataset):
    rows = dataset.rows("train")
    of = np.full(len(dataset), -1)
    of[rows] = np.arange(len(rows)) % 2
    return Folds(rows, rows, of, 2)


def test_a_class_that_is_all_in_one_part_is_learnt_all_the_same(
    imagenet, dataset, context, unasked
):
    """One cluster of near-duplicates may be all there is of it."""
    folds = _halves(dataset)
    of = folds.of.copy()
    threes = folds.taught[dataset.labels[folds.taught] == 3]
    of[threes] = 0
    one = Inspect(judges=("fine_tuning",), folds=2, epochs=1)
    view = View(imagenet, dataset, context, one)
    said = fine_tuned_judge.by_fine_tuning(view, replace(folds, of=of))
    right = said.argmax(1) == dataset.labels[folds.judged]
    assert right[np.isin(folds.judged, threes)].mean() > 0.5
