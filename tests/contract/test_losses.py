"""What every loss keeps, whichever it is."""

import typing

import pytest
import torch
from torch.nn import functional

from acclimate.fine_tuning.settings import LossName
from acclimate.training.optim.losses import LOSSES

every = pytest.mark.parametrize("name", LOSSES)


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(12, 5, generator=generator, requires_grad=True)
    return logits, torch.randint(5, (12,), generator=generator)


def test_the_suite_covers_every_loss():
    assert set(LOSSES) == set(typing.get_args(LossName))
    assert len(LOSSES) == 4


@every
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_there_is_one_finite_number_an_image(name, smoothing):
    logits, targets = batch()
    losses = LOSSES[name](logits, targets, smoothing)
    assert losses.shape == (12,)
    assert losses.isfinite().all()


@every
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_each_image_is_judged_by_itself(name, smoothing):
    logits, targets = batch()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    whole = LOSSES[name](logits, targets, smoothing)
    assert torch.allclose(LOSSES[name](logits[order], targets[order], smoothing), whole[order])
    assert torch.allclose(LOSSES[name](logits[3:4], targets[3:4], smoothing), whole[3:4])


@every
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_ids_and_certain_probabilities_say_the_same(name, smoothing):
    logits, targets = batch()
    certain = functional.one_hot(targets, 5).float()
    by_id = LOSSES[name](logits, targets, smoothing)
    assert torch.allclose(LOSSES[name](logits, certain, smoothing), by_id, atol=1e-6)


@every
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_mixed_label_is_judged_too(name, smoothing):
    logits, targets = batch()
    mixed = 0.7 * functional.one_hot(targets, 5) + 0.3 * functional.one_hot(targets.roll(1), 5)
    losses = LOSSES[name](logits, mixed, smoothing)
    assert losses.shape == (12,)
    losses.sum().backward()
    assert logits.grad.isfinite().all()
    agreeing = (mixed + 1e-6).log()
    assert (LOSSES[name](agreeing, mixed, 0.0) <= losses.detach() + 1e-6).float().mean() > 0.9


@every
def test_the_right_answer_costs_less_than_a_wrong_one(name):
    right = LOSSES[name](torch.eye(5) * 3, torch.arange(5), 0.0)
    wrong = LOSSES[name](torch.eye(5) * 3, torch.arange(5).roll(1), 0.0)
    assert (right < wrong).all()


@every
def test_a_step_against_the_gradient_lowers_it(name):
    logits, targets = batch()
    before = LOSSES[name](logits, targets, 0.1).sum()
    before.backward()
    assert logits.grad.abs().sum() > 0
    after = LOSSES[name](logits - 0.1 * logits.grad, targets, 0.1).sum()
    assert after < before


@every
def test_huge_logits_stay_finite(name):
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = LOSSES[name](logits, torch.tensor([1]), 0.0).sum()
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
