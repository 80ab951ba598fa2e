"""Heads on kept features: they learn, the backbone does not run again, bad kinds are ruled out."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from acclimate.fine_tuning.head_init import with_fitted_head
from acclimate.fine_tuning.settings import FineTune
from acclimate.hyperparameter_search.fine_tune_trial import SearchJob
from acclimate.hyperparameter_search.head_trials import (
    TRIED,
    HeadTrials,
    competitive_heads,
    run_head_trials,
)
from acclimate.hyperparameter_search.settings import Search
from acclimate.hyperparameter_search.study import FinishedTrial, Study, open_storage
from acclimate.models.structure import head, with_head
from acclimate.training.engine.divergence import DivergedError
from kit import Recorder

SETTINGS = FineTune(epochs=3, batch_size=18)


@pytest.fixture(scope="module")
def bare(imagenet, dataset, context):
    return HeadTrials(imagenet, dataset, SETTINGS, context, kept=False)


@pytest.mark.parametrize("kind", ["linear", "cosine", "mlp"])
def test_each_kind_of_head_begins_fitted_and_learns(bare, kind):
    settings = SETTINGS.model_copy(update={"head": kind, "learning_rate": 1e-3})
    trained = bare.train(settings)
    assert trained.curve[0].val_accuracy > 0.5
    assert trained.curve[-1].train_loss < trained.curve[1].train_loss
    assert trained.best_epoch > 0


@pytest.mark.parametrize("kind", ["linear", "cosine", "mlp"])
def test_a_trial_starts_from_the_head_that_fine_tuning_starts_from(
    bare, kind, imagenet, dataset, context
):
    tuned = head(with_fitted_head(imagenet, dataset, kind, context).module())
    tried = head(bare._fitted(kind))
    if kind == "linear":
        assert torch.equal(tuned.weight, tried.weight)
    # The layers before the last one run elsewhere, and round otherwise.
    assert torch.allclose(tuned.weight, tried.weight, rtol=1e-3, atol=1e-3)
    assert torch.allclose(tuned.bias, tried.bias, rtol=1e-3, atol=1e-3)


def test_the_backbone_does_not_run_again(bare, imagenet, dataset, context):
    recorder = Recorder()
    again = HeadTrials(imagenet, dataset, SETTINGS, replace(context, progress=recorder), kept=False)
    again.train(SETTINGS.model_copy(update={"head": "mlp"}))
    assert recorder.tasks == []


def test_a_model_that_knows_the_classes_begins_from_its_own_head(start, dataset, context):
    last = head(start.module())
    empty = nn.Linear(last.in_features, last.out_features)
    nn.init.zeros_(empty.weight)
    blank = replace(start, network=with_head(start.module(), empty).eval())
    own = HeadTrials(blank, dataset, SETTINGS, context, kept=True)
    trained = own.train(SETTINGS.model_copy(update={"head": "linear", "learning_rate": 1e-2}))
    assert trained.curve[0].val_accuracy < 0.3
    assert trained.val_accuracy > 0.6
    assert torch.equal(head(blank.module()).weight, empty.weight)
    assert not empty.weight.any()


def test_one_of_each_kind_is_tried_first_and_all_are_written_down(
    imagenet, dataset, policy, context, tmp_path
):
    ranges = Search(learning_rate=None, weight_decay=None)
    job = SearchJob(imagenet, dataset, policy, SETTINGS, ranges, context)
    with open_storage(tmp_path / "trials.sqlite") as storage:
        trials = Study(storage, "features", lambda n: n)
        found = run_head_trials(job, trials, lambda: math.inf)
        again = run_head_trials(job, trials, lambda: math.inf)
    assert [t.number for t in found] == list(range(TRIED))
    assert [t.values["head"] for t in found[:3]] == ["linear", "cosine", "mlp"]
    assert {t.values["label_smoothing"] for t in found[:3]} == {0.1}
    assert len({t.values["label_smoothing"] for t in found}) > 8
    assert all(t.outcome == "done" and t.val_accuracy > 0.3 for t in found)
    assert [t.number for t in again] == [t.number for t in found]


def test_without_time_none_is_tried(imagenet, dataset, policy, context, tmp_path):
    job = SearchJob(imagenet, dataset, policy, SETTINGS, Search(), context)
    with open_storage(tmp_path / "trials.sqlite") as storage:
        assert run_head_trials(job, Study(storage, "features", lambda n: n), lambda: 0.0) == []


def test_a_head_that_diverges_is_told_by_the_loop(bare):
    with pytest.raises(DivergedError, match="the training diverges"):
        bare.train(SETTINGS.model_copy(update={"head": "mlp", "learning_rate": 1e30}))


def test_kinds_within_one_standard_error_of_the_best_are_left():
    with_values = [
        FinishedTrial(0, {"head": "linear"}, "done", 0.90),
        FinishedTrial(1, {"head": "linear"}, "done", 0.50),
        FinishedTrial(2, {"head": "cosine"}, "done", 0.84),
        FinishedTrial(3, {"head": "mlp"}, "diverged"),
    ]
    kinds = ("linear", "cosine", "mlp")
    assert competitive_heads(with_values, kinds, 20) == ("linear", "cosine")
    assert competitive_heads(with_values, kinds, 1000) == ("linear",)
