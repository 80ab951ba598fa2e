"""The range test: what it sees, suggests and leaves alone."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from acclimate.augmentation.batched_operations import finish_batch
from acclimate.errors import RecipeError
from acclimate.fine_tuning.settings import FineTune
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.lr_finder import (
    STEPS,
    RateCurve,
    TrialSteps,
    range_test,
    read_curve,
    resolve_rate,
)
from acclimate.training.plan import make_plan
from kit import CONTRACT, Recorder, cross_entropy, same_weights, tiny_network


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr("acclimate.training.lr_finder._LOOKED_AT", 18)
    monkeypatch.setattr("acclimate.training.lr_finder.STEPS", STEPS // 2)


@pytest.fixture
def tried(dataset, policy, context):
    def go(network=None, **settings):
        made = FineTune(batch_size=18, **settings)
        plan = make_plan(made, len(dataset.rows("train")), context)
        views = TrainingImages(dataset, policy, CONTRACT)
        return range_test(network or tiny_network(), views, cross_entropy, plan, context=context)

    return go


def test_the_loss_falls_and_runs_away_and_the_suggestion_lies_before(tried):
    found = tried()
    assert list(found.rates) == sorted(found.rates)
    assert len(found.rates) == len(found.losses) == len(found.errors) <= STEPS // 2
    assert found.rates[0] == pytest.approx(5e-4 * (18 / 32) ** 0.5 / 100)
    least = found.losses.index(min(found.losses))
    assert 0 < least < len(found.rates) - 1
    assert min(found.losses) < found.losses[0] - 0.1
    assert found.errors[least] == 0
    assert found.rates[least] * 0.5 <= found.suggestion < found.rates[-1]


RATES = [1e-5 * 1.2**step for step in range(40)]


def curve(shape, *, images=50, noise=0.3):
    """Reads a curve of images whose losses differ from each other by much more than over rates."""
    rng = np.random.default_rng(0)
    own = rng.exponential(1.0, images)
    return read_curve(
        RATES, [own + shape(step) * (1 + noise * rng.normal(size=images)) for step in range(40)]
    )


def test_a_loss_that_only_rises_is_left_where_it_rises():
    found = curve(lambda step: 0.0 if step <= 25 else 0.02 * (step - 25))
    assert found.suggestion == pytest.approx(RATES[25] * 0.5)
    assert found.reason == "half of the rate at which the loss leaves its floor"


def test_a_loss_that_falls_first_is_left_behind_its_lowest_point():
    found = curve(lambda step: abs(step - 20) / 20)
    assert RATES[20] * 0.5 <= found.suggestion <= RATES[22] * 0.5


def test_a_bump_on_the_way_is_not_where_the_loss_leaves_its_floor():
    found = curve(lambda step: 0.1 if step == 10 else max(0, step - 30) * 0.1)
    assert found.suggestion == pytest.approx(RATES[30] * 0.5)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (lambda _: 0.0, "the loss does not rise up to a rate of 0.012"),
        (lambda step: 1 - step / 40, "the loss does not rise up to a rate of 0.012"),
        (lambda step: 0.1 * step, "the loss rises already at a rate of 1e-05"),
    ],
)
def test_a_curve_that_shows_no_rate_is_said(shape, reason):
    found = curve(shape)
    assert (found.suggestion, found.reason) == (None, reason)


def test_a_loss_that_ends_in_nan_has_left_its_floor():
    losses = [np.ones(9)] * 20 + [np.full(9, np.nan)] * 20
    found = read_curve(RATES, losses)
    assert found.suggestion == pytest.approx(RATES[19] * 0.5)
    assert found.losses[-1] == np.inf


def test_nothing_is_changed_and_the_same_comes_out_again(tried):
    network = tiny_network(drop_rate=0.3)
    before = copy.deepcopy(network)
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    first = tried(network)
    assert torch.equal(torch.rand(3), wanted)
    assert same_weights(network, before)
    assert all(p.grad is None for p in network.parameters())
    assert not network.training
    torch.manual_seed(8)
    assert tried(network) == first


def test_small_batches_are_looked_at_together_and_give_the_same_losses(
    dataset, policy, context, monkeypatch
):
    plan = make_plan(FineTune(batch_size=4), len(dataset.rows("train")), context)
    views = TrainingImages(dataset, policy, CONTRACT)
    network, seen = tiny_network(), []
    network.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    trial = TrialSteps(network, views, cross_entropy, plan, context)
    drawn = trial.draw(40)
    together = trial.losses(drawn)
    monkeypatch.setattr("acclimate.training.lr_finder._TOGETHER", 1)
    assert trial.losses(drawn) == pytest.approx(together, rel=1e-4)
    assert seen == [32, 8] + [4] * 10


def test_rates_are_tried_on_images_that_the_device_altered_where_it_does(tried, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "acclimate.training.batches.train_batches.finish_batch",
        lambda images, drawn, on: asked.append(on) or finish_batch(images, drawn, on),
    )
    here, there = tried(), tried(augment_on="device")
    assert set(asked) == {torch.device("cpu")}
    assert len(asked) >= len(there.losses)
    assert there.losses[:5] == pytest.approx(here.losses[:5], rel=0.01)


def test_a_network_that_is_lost_at_every_rate_is_said(tried):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    nn.init.constant_(network[1].weight, float("nan"))
    with pytest.raises(RecipeError, match=r"^learning_rate: loss is nan at rate "):
        tried(network)


def test_a_plan_that_asks_for_it_gets_the_rate_that_was_found(dataset, policy, context):
    views = TrainingImages(dataset, policy, CONTRACT)
    known = make_plan(FineTune(batch_size=60), len(dataset.rows("train")), context)
    facts = (tiny_network(), views, cross_entropy)
    assert resolve_rate(known, *facts, context=context) is known
    asked = make_plan(
        FineTune(batch_size=60, learning_rate="find"), len(dataset.rows("train")), context
    )
    found = resolve_rate(asked, *facts, context=context)
    seen = range_test(*facts, replace(asked, find_rate=False), context=context)
    assert found.learning_rate == seen.suggestion
    assert not found.find_rate
    assert "range test" in found.reasons["learning_rate"]


def test_without_a_suggestion_the_rate_is_that_of_auto(dataset, policy, context, monkeypatch):
    nothing = RateCurve((1e-4,), (1.0,), (0.0,), None, "the loss does not rise")
    monkeypatch.setattr("acclimate.training.lr_finder.range_test", lambda *_, **__: nothing)
    train, told = len(dataset.rows("train")), Recorder()
    asked = make_plan(FineTune(batch_size=60, learning_rate="find"), train, context)
    auto = make_plan(FineTune(batch_size=60), train, context)
    facts = (tiny_network(), TrainingImages(dataset, policy, CONTRACT), cross_entropy)
    plan = resolve_rate(asked, *facts, context=replace(context, progress=told))
    assert (plan.learning_rate, plan.find_rate) == (auto.learning_rate, False)
    assert told.lines == [
        "learning_rate: 0.00068, as auto, because the range test shows no rate: "
        "the loss does not rise"
    ]
