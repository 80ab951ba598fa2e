"""What every pruner keeps, whichever it is."""

import typing
from dataclasses import replace

import pytest
import timm
import torch

from acclimate.compression.prune import PRUNERS
from acclimate.compression.settings import Prune, PrunerName
from acclimate.models.classifier import Classifier
from acclimate.models.onnx.export import agreement, read_metadata, to_onnx
from acclimate.models.pretrained import wrap
from acclimate.models.structure import head
from kit import CONTRACT

ARCHITECTURES = ["test_resnet", "test_efficientnet", "test_byobnet"]

every = pytest.mark.parametrize("name", PRUNERS)
on_each = pytest.mark.parametrize("architecture", ARCHITECTURES)


@pytest.fixture(scope="module")
def make(dataset, context):
    """(pruner, architecture) to the given classifier and the pruned one, made once."""
    made = {}

    def go(name, architecture):
        if (name, architecture) not in made:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                network = timm.create_model(architecture, num_classes=10)
            given = replace(wrap(network, CONTRACT), classes=dataset.classes)
            digest = given.digest
            network = PRUNERS[name](given, dataset, Prune(method=name, ratio=0.25), context)
            assert replace(given).digest == digest
            made[name, architecture] = given, replace(given, network=network)
        return made[name, architecture]

    return go


def test_the_suite_covers_every_pruner():
    assert set(PRUNERS) == set(typing.get_args(PrunerName))
    assert len(PRUNERS) == 1


@every
@on_each
def test_the_result_is_smaller_and_ready_to_run(name, architecture, make):
    given, small = make(name, architecture)
    assert small.parameters < 0.85 * given.parameters
    assert small.module() is not given.module()
    assert not small.module().training
    assert {p.device.type for p in small.module().parameters()} == {"cpu"}
    with torch.inference_mode():
        logits = small.module()(torch.zeros(2, 3, 32, 32))
    assert logits.shape == (2, 10)
    assert logits.isfinite().all()


@every
@on_each
def test_classes_and_contract_stay(name, architecture, make):
    given, small = make(name, architecture)
    assert (small.classes, small.contract) == (given.classes, given.contract)
    assert head(small.module()).out_features == 10


@every
@on_each
def test_the_result_is_saved_and_loaded_strictly(name, architecture, make, tmp_path):
    _, small = make(name, architecture)
    small.save(tmp_path / "small")
    back = Classifier.load(tmp_path / "small")
    assert back.digest == small.digest
    assert back.parameters == small.parameters


@every
def test_pytorch_and_onnx_agree(name, make, dataset):
    _, small = make(name, "test_resnet")
    exported = replace(small, graph=to_onnx(small))
    figures = agreement(exported, dataset, 20)
    assert figures["same_predictions"] == 1.0
    assert figures["max_difference"] < 1e-3
    assert read_metadata(exported.graph) == (CONTRACT, small.classes)


@every
def test_it_repeats_under_one_seed(name, make, dataset, context):
    given, small = make(name, "test_resnet")
    again = PRUNERS[name](given, dataset, Prune(method=name, ratio=0.25), context)
    assert replace(given, network=again).digest == small.digest
