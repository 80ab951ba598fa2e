"""What every importance keeps, whichever it is."""

import typing
from dataclasses import replace

import pytest
import timm
import torch

from acclimate.compression.importance import IMPORTANCES
from acclimate.compression.prune import structured
from acclimate.compression.settings import ImportanceName, Prune
from acclimate.models.pretrained import wrap
from kit import CONTRACT

every = pytest.mark.parametrize("name", IMPORTANCES)


@pytest.fixture
def given(dataset):
    """A small residual network that has the digits' classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("test_resnet", num_classes=10, zero_init_last=False)
    return replace(wrap(network, CONTRACT), classes=dataset.classes)


def pruned(given, dataset, context, name):
    settings = Prune(importance=name, ratio=0.25)
    return replace(given, network=structured(given, dataset, settings, context))


def test_the_suite_covers_every_importance():
    assert set(IMPORTANCES) == set(typing.get_args(ImportanceName))
    assert len(IMPORTANCES) == 2


@every
def test_it_judges_every_layer_and_repeats(name, given, dataset, context):
    first, again = (pruned(given, dataset, context, name) for _ in range(2))
    assert first.digest == again.digest
    assert first.parameters < 0.85 * given.parameters


@every
def test_it_leaves_the_weights_it_looks_at(name, given, dataset):
    network = given.module()
    before = given.digest
    IMPORTANCES[name](network, CONTRACT, dataset, dataset.rows("train")[:40])
    assert replace(given).digest == before
    assert not network.training


@every
def test_a_channel_without_weights_goes_first(name, given, dataset, context):
    network = given.module()
    layer = network.layer1[0].conv1
    dead = layer.out_channels // 2
    with torch.no_grad():
        layer.weight[:dead] = 0
        network.layer1[0].bn1.weight[:dead] = 0
        network.layer1[0].bn1.bias[:dead] = 0
    small = pruned(given, dataset, context, name).module()
    kept = small.layer1[0].conv1.weight
    gone = layer.out_channels - len(kept)
    still_dead = int((kept.abs().amax((1, 2, 3)) == 0).sum())
    assert gone >= 8
    assert still_dead == max(0, dead - gone)
