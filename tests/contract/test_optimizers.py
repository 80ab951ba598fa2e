"""What every update rule keeps, whichever it is."""

import math
import typing
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from acclimate.data.batches import in_order
from acclimate.models.runtime import Normalizer
from acclimate.models.structure import head, with_head
from acclimate.training.optimizers import OPTIMIZERS, parameter_groups
from acclimate.training.plan import make_plan
from acclimate.training.settings import FineTune, OptimizerName

every = pytest.mark.parametrize("name", OPTIMIZERS)


def groups(network, weight_decay=0.0):
    return parameter_groups(network, learning_rate=0.01, layer_decay=1.0, weight_decay=weight_decay)


def test_the_suite_covers_every_optimizer():
    assert set(OPTIMIZERS) == set(typing.get_args(OptimizerName))
    assert len(OPTIMIZERS) == 2


@every
def test_twenty_steps_on_digits_lower_the_loss(name, imagenet, dataset, context):
    width = head(imagenet.module()).in_features
    network = with_head(imagenet.module(), nn.Linear(width, 10)).eval()
    nn.init.zeros_(head(network).weight)
    nn.init.zeros_(head(network).bias)
    batch = next(in_order(dataset, dataset.rows("train")[::6], imagenet.contract, batch_size=32))
    images = Normalizer(imagenet.contract, torch.device("cpu"))(torch.from_numpy(batch.images))
    targets = torch.from_numpy(batch.targets)
    plan = make_plan(FineTune(optimizer=name, batch_size=32), 1000, context)
    made = parameter_groups(
        network,
        learning_rate=plan.learning_rate,
        layer_decay=plan.layer_decay,
        weight_decay=plan.weight_decay,
    )
    rule = OPTIMIZERS[name](made)
    losses = []
    for _ in range(21):
        loss = functional.cross_entropy(network(images), targets)
        losses.append(float(loss.detach()))
        rule.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), plan.max_gradient_norm)
        rule.step()
    assert len(set(targets.tolist())) == 10
    assert losses[0] == pytest.approx(math.log(10), abs=1e-4)
    assert losses[20] < 0.7 * losses[0]


@every
def test_each_group_learns_at_its_own_rate(name):
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    before = [layer.weight.detach().clone() for layer in network]
    made = parameter_groups(network, learning_rate=0.01, layer_decay=1e-3, weight_decay=0.0)
    rule = OPTIMIZERS[name](made)
    assert [group["lr"] for group in rule.param_groups] == [group["lr"] for group in made]
    functional.cross_entropy(network(torch.eye(4)), torch.arange(4)).backward()
    rule.step()
    moved = [
        float((layer.weight.detach() - b).norm()) for layer, b in zip(network, before, strict=True)
    ]
    assert 0 < moved[0] < moved[1] / 20


@every
def test_weight_decay_pulls_matrices_and_leaves_biases(name):
    layer = nn.Linear(4, 4)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    rule = OPTIMIZERS[name](groups(layer, weight_decay=0.5))
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    rule.step()
    assert layer.weight.norm() < weight.norm()
    assert torch.equal(layer.bias, bias)


@every
def test_a_saved_state_goes_on_exactly(name):
    def learn(network, rule, steps):
        for _ in range(steps):
            functional.cross_entropy(network(torch.eye(4)), torch.arange(4)).backward()
            rule.step()
            rule.zero_grad()

    torch.manual_seed(0)
    whole = nn.Linear(4, 4)
    parted = nn.Linear(4, 4)
    parted.load_state_dict(whole.state_dict())
    learn(whole, OPTIMIZERS[name](groups(whole)), 6)
    first = OPTIMIZERS[name](groups(parted))
    learn(parted, first, 3)
    second = OPTIMIZERS[name](groups(parted))
    second.load_state_dict(first.state_dict())
    learn(parted, second, 3)
    assert torch.equal(whole.weight, parted.weight)


def test_the_optimizer_of_a_plan_is_the_one_that_is_named(context):
    plan = make_plan(FineTune(optimizer="sgd"), 100, context)
    assert isinstance(OPTIMIZERS[plan.optimizer](groups(nn.Linear(2, 2))), torch.optim.SGD)
    plan = replace(plan, optimizer="adamw")
    assert isinstance(OPTIMIZERS[plan.optimizer](groups(nn.Linear(2, 2))), torch.optim.AdamW)
