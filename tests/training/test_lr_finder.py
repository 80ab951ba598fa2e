"""The range test: what it sees, suggests and leaves alone."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from acclimate.augmentation.batched_operations import finish_batch
from acclimate.errors import RecipeError
from acclimate.fine_tuning.settings import FineTune
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.lr_finder import STEPS, range_test, resolve_rate
from acclimate.training.plan import make_plan
from kit import CONTRACT, cross_entropy, same_weights, tiny_network


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
    assert len(found.rates) == len(found.losses) == len(found.smoothed) <= STEPS
    assert found.rates[0] == pytest.approx(5e-4 * (18 / 32) ** 0.5 / 100)
    least = found.smoothed.index(min(found.smoothed))
    assert 0 < least < len(found.rates) - 1
    assert min(found.smoothed) < found.smoothed[0] - 0.1
    assert found.smoothed[-1] > min(found.smoothed)
    assert found.suggestion == pytest.approx(found.rates[least] / 10)


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
