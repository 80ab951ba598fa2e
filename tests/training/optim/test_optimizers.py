"""Which weights learn how fast, and which are pulled towards zero."""

import pytest
import timm
import torch
from torch import nn

from acclimate.models.structure import blocks, head
from acclimate.training.optim.optimizers import parameter_groups

ARCHITECTURES = ["test_resnet", "test_efficientnet", "test_convnext", "test_vit", "test_nfnet"]
NORMS = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)

every = pytest.mark.parametrize("name", ARCHITECTURES)


def network(name):
    return timm.create_model(name, num_classes=7)


def groups(module, *, layer_decay=0.5):
    return parameter_groups(module, learning_rate=0.1, layer_decay=layer_decay, weight_decay=0.02)


def by_parameter(made, field):
    return {id(p): group[field] for group in made for p in group["params"]}


@every
def test_every_parameter_stands_in_exactly_one_group(name):
    made = network(name)
    found = [id(p) for group in groups(made) for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in made.parameters())


@every
def test_norms_and_biases_are_not_pulled_towards_zero_and_matrices_are(name):
    made = network(name)
    decay = by_parameter(groups(made), "weight_decay")
    norms = [m for m in made.modules() if isinstance(m, NORMS)]
    biases = [p for n, p in made.named_parameters() if n.endswith("bias")]
    assert norms or name == "test_nfnet"
    assert biases
    assert {decay[id(p)] for m in norms for p in m.parameters(recurse=False)} <= {0.0}
    assert {decay[id(p)] for p in biases} == {0.0}
    layers = [m for m in made.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert {decay[id(m.weight)] for m in layers} == {0.02}


@every
def test_rates_fall_block_by_block_towards_the_input(name):
    made = network(name)
    peaks = by_parameter(groups(made), "peak")
    rates = [{peaks[id(p)] for p in module.parameters()} for _, module in blocks(made)]
    assert all(len(found) == 1 for found in rates)
    line = [found.pop() for found in rates]
    assert len(line) >= 6
    assert line == pytest.approx([0.1 * 0.5 ** (len(line) - 1 - i) for i in range(len(line))])
    assert peaks[id(head(made).weight)] == 0.1


def test_what_belongs_to_no_block_learns_slowest():
    made = network("test_vit")
    peaks = by_parameter(groups(made), "peak")
    assert (
        peaks[id(made.cls_token)] == min(peaks.values()) < peaks[id(made.patch_embed.proj.weight)]
    )


def test_without_layer_decay_all_learn_alike():
    assert {g["lr"] for g in groups(network("test_resnet"), layer_decay=1.0)} == {0.1}


def test_every_group_starts_at_its_peak():
    assert all(group["lr"] == group["peak"] for group in groups(network("test_resnet")))


def test_frozen_parameters_are_left_out():
    made = network("test_resnet")
    made.requires_grad_(False)
    head(made).requires_grad_(True)
    found = {id(p) for group in groups(made) for p in group["params"]}
    assert found == {id(p) for p in head(made).parameters()}


def test_a_shared_weight_is_stepped_once():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    made = groups(nn.Sequential(first, second))
    found = [id(p) for group in made for p in group["params"]]
    assert len(found) == len(set(found)) == 3
    torch.optim.SGD(made)
