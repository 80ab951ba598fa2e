"""Adapters change nothing at first, learn in low rank, and merge bit for bit."""

import copy

import pytest
import timm
import torch
from torch import nn
from torch.nn.utils import parametrize

from acclimate.models.adapters import adapt, constrain, merge
from acclimate.models.heads import replace_head
from acclimate.models.structure import head

IMAGES = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)


def network(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return (
            timm.create_model(name, num_classes=5, img_size=32).eval()
            if "vit" in name
            else (timm.create_model(name, num_classes=5).eval())
        )


def stir(adapted):
    """Moves everything that asks for a gradient."""
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator())


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_vit"])
def test_the_merged_network_is_the_adapted_one(name):
    given = network(name)
    adapted = copy.deepcopy(given)
    depthwise = name == "test_efficientnet"
    layers, whole = adapt(adapted, rank=8 if depthwise else 2, alpha=8.0, seed=0)
    assert layers > 3
    assert (whole > 0) == depthwise
    with torch.no_grad():
        assert torch.equal(adapted(IMAGES), given(IMAGES))
        stir(adapted)
        moved = adapted(IMAGES)
        assert not torch.allclose(moved, given(IMAGES), atol=1e-2)
        merge(adapted)
        assert torch.equal(adapted(IMAGES), moved)
    assert [(n, t.shape) for n, t in adapted.state_dict().items()] == [
        (n, t.shape) for n, t in given.state_dict().items()
    ]
    assert [type(m) for m in adapted.modules()] == [type(m) for m in given.modules()]


def test_a_layer_moves_within_the_rank_and_nothing_else_moves():
    given = network("test_resnet")
    adapted = copy.deepcopy(given)
    adapt(adapted, rank=2, alpha=4.0, seed=0)
    stir(adapted)
    merge(adapted)
    for name, module in given.named_modules():
        now = adapted.get_submodule(name)
        if isinstance(module, nn.BatchNorm2d):
            assert torch.equal(now.weight, module.weight)
        elif isinstance(module, nn.Conv2d):
            moved = (now.weight - module.weight).detach().flatten(1)
            assert torch.linalg.matrix_rank(moved, atol=1e-4) == 2


def test_grouped_convolutions_are_adapted_within_their_groups():
    given = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3, groups=2), nn.Flatten(), nn.Linear(32 * 784, 5)
    ).eval()
    adapted = copy.deepcopy(given)
    assert adapt(adapted, rank=4, alpha=4.0, seed=0) == (2, 0)
    stir(adapted)
    with torch.no_grad():
        moved = adapted(IMAGES)
        merge(adapted)
        assert torch.equal(adapted(IMAGES), moved)
    assert adapted[1].groups == 2


def test_a_parametrization_of_the_users_own_stays():
    given = network("test_resnet")
    parametrize.register_parametrization(given.conv1[0], "weight", nn.Identity())
    adapt(given, rank=2, alpha=4.0, seed=0)
    merge(given)
    assert parametrize.is_parametrized(given.conv1[0], "weight")
    assert sum(parametrize.is_parametrized(m) for m in given.modules()) == 1


def test_a_cosine_heads_directions_keep_one_length():
    given = network("test_resnet")
    replace_head(given, "cosine", 5)
    with torch.no_grad():
        weight = head(given).weight
        weight.copy_(3 * nn.functional.normalize(weight, dim=1))
    before = given(IMAGES)
    constrain(given)
    torch.testing.assert_close(given(IMAGES), before)
    stir(given)
    merge(given)
    lengths = head(given).weight.detach().norm(dim=1)
    torch.testing.assert_close(lengths, lengths.mean().expand(5))
    assert float(lengths.mean()) != pytest.approx(3, abs=1e-3)
