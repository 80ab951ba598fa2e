"""What every optimizer keeps."""

import math
import typing
from dataclasses import replace

import pytest
import timm.optim.muon
import torch
from torch import nn
from torch.nn import functional

from acclimate.fine_tuning.settings import FineTune
from acclimate.training.optim import optimizers
from acclimate.training.optim.optimizers import OPTIMIZERS, eval_mode, parameter_groups, train_mode
from acclimate.training.plan import make_plan
from acclimate.training.settings import OptimizerName
from kit import TensorBatches

every = pytest.mark.parametrize("name", OPTIMIZERS)


def groups(network, weight_decay=0.0):
    return parameter_groups(network, learning_rate=0.01, layer_decay=1.0, weight_decay=weight_decay)


def test_the_suite_covers_every_optimizer():
    assert set(OPTIMIZERS) == set(typing.get_args(OptimizerName))
    assert len(OPTIMIZERS) == 5


@every
def test_twenty_steps_on_digits_lower_the_loss(name, context):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 128, 3),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 128, 3, groups=128),
            nn.Flatten(),
            nn.Linear(2048, 10),
        )
    nn.init.zeros_(network[-1].weight)
    nn.init.zeros_(network[-1].bias)
    images, targets = (tensor[:32] for tensor in TensorBatches(32).train)
    plan = make_plan(FineTune(optimizer=name, batch_size=32), 1000, context)
    made = parameter_groups(
        network,
        learning_rate=plan.learning_rate,
        layer_decay=plan.layer_decay,
        weight_decay=plan.weight_decay,
    )
    optimizer = OPTIMIZERS[name].create(made)
    train_mode(optimizer)
    losses = []
    for _ in range(21):
        loss = functional.cross_entropy(network(images[:, None]), targets)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), plan.max_gradient_norm)
        optimizer.step()
    assert len(set(targets.tolist())) == 10
    assert losses[0] == pytest.approx(math.log(10), abs=1e-4)
    assert losses[20] < 0.7 * losses[0]


@every
def test_each_group_learns_at_its_own_rate(name):
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    before = [layer.weight.detach().clone() for layer in network]
    made = parameter_groups(network, learning_rate=0.01, layer_decay=1e-3, weight_decay=0.0)
    optimizer = OPTIMIZERS[name].create(made)
    train_mode(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [group["lr"] for group in made]
    functional.cross_entropy(network(torch.eye(4)), torch.arange(4)).backward()
    optimizer.step()
    moved = [
        float((layer.weight.detach() - b).norm()) for layer, b in zip(network, before, strict=True)
    ]
    assert 0 < moved[0] < moved[1] / 20


@every
def test_weight_decay_pulls_matrices_and_leaves_biases(name):
    layer = nn.Linear(4, 4)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    optimizer = OPTIMIZERS[name].create(groups(layer, weight_decay=0.5))
    train_mode(optimizer)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert layer.weight.norm() < weight.norm()
    assert torch.equal(layer.bias, bias)


@every
def test_a_saved_state_goes_on_exactly(name):
    def learn(network, optimizer, steps):
        train_mode(optimizer)
        for _ in range(steps):
            functional.cross_entropy(network(torch.eye(4)), torch.arange(4)).backward()
            optimizer.step()
            optimizer.zero_grad()
        eval_mode(optimizer)

    torch.manual_seed(0)
    whole = nn.Linear(4, 4)
    parted = nn.Linear(4, 4)
    parted.load_state_dict(whole.state_dict())
    optimizer = OPTIMIZERS[name].create(groups(whole))
    learn(whole, optimizer, 3)
    learn(whole, optimizer, 3)
    first = OPTIMIZERS[name].create(groups(parted))
    learn(parted, first, 3)
    second = OPTIMIZERS[name].create(groups(parted))
    second.load_state_dict(first.state_dict())
    learn(parted, second, 3)
    assert torch.equal(whole.weight, parted.weight)


def test_the_optimizer_of_a_plan_is_the_one_that_is_named(context):
    plan = make_plan(FineTune(optimizer="sgd"), 100, context)
    assert isinstance(OPTIMIZERS[plan.optimizer].create(groups(nn.Linear(2, 2))), torch.optim.SGD)
    plan = replace(plan, optimizer="adamw")
    assert isinstance(OPTIMIZERS[plan.optimizer].create(groups(nn.Linear(2, 2))), torch.optim.AdamW)


def test_muon_makes_orthogonal_steps_for_convolutions_and_none_for_the_head():
    """A step of AdamW's is full of signs; one of Muon's has singular values of one size."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.Flatten(), nn.Linear(8, 8))
    before = [network[0].weight.detach().clone(), network[2].weight.detach().clone()]
    optimizer = OPTIMIZERS["muon"].create(groups(network))
    images, targets = torch.randn(16, 3, 3, 3), torch.arange(16) % 8
    functional.cross_entropy(network(images), targets).backward()
    optimizer.step()
    body, last = (
        torch.linalg.svdvals((now.detach() - was).flatten(1))
        for now, was in zip((network[0].weight, network[2].weight), before, strict=True)
    )
    assert body[0] / body[6] < 1.5
    assert last[0] / last[6] > 3


def test_muon_computes_in_float32_on_a_cpu_and_leaves_timm_as_it_was(monkeypatch):
    seen = []

    def recorded(matrix, *more, dtype, **options):
        seen.append(dtype)
        return original(matrix, *more, dtype=dtype, **options)

    original = optimizers.zeropower_via_newtonschulz
    monkeypatch.setattr(optimizers, "zeropower_via_newtonschulz", recorded)
    network = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8))
    optimizer = OPTIMIZERS["muon"].create(groups(network))
    functional.cross_entropy(network(torch.eye(8)), torch.arange(8)).backward()
    optimizer.step()
    assert seen == [torch.float32]
    assert timm.optim.muon.zeropower_via_newtonschulz is original


def test_schedule_free_judges_an_average_and_learns_elsewhere():
    network = nn.Linear(4, 4)
    optimizer = OPTIMIZERS["schedule_free"].create(groups(network))
    train_mode(optimizer)
    for _ in range(5):
        functional.cross_entropy(network(torch.eye(4)), torch.arange(4)).backward()
        optimizer.step()
        optimizer.zero_grad()
    learning = network.weight.detach().clone()
    eval_mode(optimizer)
    judged = network.weight.detach().clone()
    assert not torch.equal(learning, judged)
    eval_mode(optimizer)
    assert torch.equal(network.weight, judged)
    train_mode(optimizer)
    assert torch.allclose(network.weight, learning, atol=1e-6)
