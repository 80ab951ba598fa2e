"""The formula of each method, against values computed by hand or in another way."""

import math
import typing

import numpy as np
import pytest
import torch

from acclimate.distillation.methods import (
    DISTILLATIONS,
    DistillationInputs,
    dist_loss,
    dkd_loss,
    hint_distance,
)
from acclimate.distillation.settings import Distill, DistillationName
from acclimate.distillation.teachers import TeacherOutput
from acclimate.training.optim.losses import soft_targets

every = pytest.mark.parametrize("name", DISTILLATIONS)


def sides(count=6, classes=4):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(count, classes, generator=generator) * 2 for _ in range(2)]


def inputs(own, theirs, settings=None):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(len(own), 5, generator=generator)
    teacher = TeacherOutput(theirs, features)
    targets = torch.arange(len(own)) % own.shape[1]
    return DistillationInputs(own, teacher, targets, 0.5 * features, 2.0, settings or Distill())


def log(*numbers):
    return torch.tensor([numbers]).log()


def dkd(own, theirs, target, temperature=1.0, alpha=1.0, beta=0.0):
    targets = torch.tensor([target])
    found = dkd_loss(own, theirs, targets, temperature=temperature, alpha=alpha, beta=beta)
    return float(found)


def test_dkd_by_hand():
    own, theirs = log(0.5, 0.3, 0.2), log(0.8, 0.1, 0.1)
    target = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    others = 0.5 * math.log(0.5 / 0.6) + 0.5 * math.log(0.5 / 0.4)
    assert dkd(own, theirs, 0) == pytest.approx(target, rel=1e-5)
    assert dkd(own, theirs, 0, alpha=0.0, beta=1.0) == pytest.approx(others, rel=1e-5)
    assert dkd(own, theirs, 0, alpha=1.0, beta=8.0) == pytest.approx(target + 8 * others, rel=1e-5)


def test_dkd_equals_soft_targets_when_beta_is_the_teachers_probability_of_other_classes():
    own, theirs = sides()
    targets = torch.tensor([0, 1, 2, 3, 0, 1])
    left = 1 - (theirs / 3).softmax(1).gather(1, targets[:, None])[:, 0]
    parts = [
        dkd_loss(own, theirs, targets, temperature=3.0, alpha=a, beta=b)
        for a, b in ((1.0, 0.0), (0.0, 1.0))
    ]
    whole = parts[0] + left * parts[1]  # equation 5 of the paper
    assert torch.allclose(whole, soft_targets(own, theirs, 3.0), atol=1e-5)


def test_dkd_stays_finite_for_certain_predictions():
    own = torch.tensor([[-200.0, 200.0, 0.0]], requires_grad=True)
    theirs = torch.tensor([[300.0, 0.0, -300.0]])
    loss = dkd_loss(own, theirs, torch.tensor([0]), temperature=1.0, alpha=1.0, beta=8.0)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert own.grad.isfinite().all()


def test_dist_is_one_minus_the_pearson_correlation_of_rows_and_columns():
    own, theirs = sides()
    p, q = (np.asarray((s / 2.0).softmax(1), np.float64) for s in (own, theirs))
    rows = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)]
    columns = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)]
    between = dist_loss(own, theirs, temperature=2.0, beta=1.0, gamma=0.0)
    within = dist_loss(own, theirs, temperature=2.0, beta=0.0, gamma=1.0)
    assert torch.allclose(between, 4 * torch.tensor(rows).float(), atol=1e-4)
    assert torch.allclose(within, torch.full((6,), 4 * float(np.mean(columns))), atol=1e-4)
    both = dist_loss(own, theirs, temperature=2.0, beta=2.0, gamma=3.0)
    assert torch.allclose(both, 2 * between + 3 * within, atol=1e-4)


def test_the_intra_class_term_of_a_single_image_has_no_gradient():
    own, theirs = (side[:1].requires_grad_() for side in sides())
    dist_loss(own, theirs, temperature=1.0, beta=0.0, gamma=1.0).sum().backward()
    assert float(own.grad.abs().sum()) == 0.0


def test_hint_distance_is_relative_to_the_length_of_the_teachers_features():
    features, projected = torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 3.0]])
    assert float(hint_distance(projected, features)) == pytest.approx(1 / 25)
    assert float(hint_distance(10 * projected, 10 * features)) == pytest.approx(1 / 25)
    assert float(hint_distance(torch.zeros(1, 2), features)) == pytest.approx(1.0)


def test_hints_add_a_distance_to_soft_targets():
    own, theirs = sides()
    given = inputs(own, theirs, Distill(hint_weight=2.0))
    missed = DISTILLATIONS["hints"].loss(given) - DISTILLATIONS["soft"].loss(given)
    assert torch.allclose(missed, torch.full((6,), 2 * 0.25), atol=1e-5)


def test_the_suite_covers_every_method():
    assert set(DISTILLATIONS) == set(typing.get_args(DistillationName))


@every
def test_every_method_gives_one_finite_loss_per_image(name):
    losses = DISTILLATIONS[name].loss(inputs(*sides()))
    assert losses.shape == (6,)
    assert losses.isfinite().all()
    assert (losses >= 0).all()


@every
def test_a_gradient_step_lowers_the_loss(name):
    own, theirs = sides()
    own.requires_grad_()
    before = DISTILLATIONS[name].loss(inputs(own, theirs)).sum()
    before.backward()
    after = DISTILLATIONS[name].loss(inputs(own.detach() - 0.01 * own.grad, theirs)).sum()
    assert float(own.grad.abs().sum()) > 0
    assert float(after) < float(before.detach())


@pytest.mark.parametrize("name", ["soft", "dkd", "dist"])
def test_the_loss_is_0_for_equal_logits(name):
    own, _ = sides()
    losses = DISTILLATIONS[name].loss(inputs(own, own.clone()))
    assert torch.allclose(losses, torch.zeros(6), atol=1e-5)


@pytest.mark.parametrize(("setting", "name"), [
    ("dkd_alpha", "dkd"), ("dkd_beta", "dkd"), ("dist_beta", "dist"), ("dist_gamma", "dist"),
    ("hint_weight", "hints"),
])  # fmt: skip
def test_each_weight_setting_scales_its_method(setting, name):
    light, heavy = (
        float(DISTILLATIONS[name].loss(inputs(*sides(), Distill(**{setting: w}))).sum())
        for w in (0.5, 5.0)
    )
    assert heavy > light
