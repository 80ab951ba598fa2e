"""Each head is saved, loaded, exported, pruned and quantized as the plain one is."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch

from acclimate.compression.prune import structured
from acclimate.compression.quantize import quantize
from acclimate.compression.settings import Prune, Quantize
from acclimate.errors import ModelFileError
from acclimate.features.probe import probe
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.classifier import Classifier
from acclimate.models.heads import HEADS, head_kind, head_root, replace_head
from acclimate.models.onnx.export import to_onnx
from acclimate.models.pretrained import wrap
from acclimate.models.runtime import run_onnx, run_torch
from acclimate.models.structure import backbone, head
from acclimate.models.weights import digest_weights
from kit import CONTRACT, classifier_once

OTHERS = ["cosine", "mlp"]
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def learnt(trained, dataset, policy, shared, context):
    """The digits with each head, by its name. Never changed."""
    settings = {"epochs": 3, "batch_size": 30, "learning_rate": 1e-3, "trainable": "last"}

    def learn(kind):
        plan = FineTune(head=kind, **settings)
        return lambda: fine_tune(trained, dataset, policy, plan, context=context)

    return {kind: classifier_once(shared / f"{kind} head", learn(kind)) for kind in OTHERS}


@pytest.mark.parametrize("kind", OTHERS)
def test_it_starts_fitted_and_learns(kind, learnt):
    figures = learnt[kind].card.steps[-1].figures
    assert head_kind(learnt[kind].module()) == kind
    assert figures["start_val_accuracy"] > 0.6
    assert figures["val_accuracy"] >= figures["start_val_accuracy"]
    losses = [line["train_loss"] for line in learnt[kind].card.steps[-1].curve[1:]]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("kind", OTHERS)
def test_it_comes_back_from_disk(kind, learnt, tmp_path):
    learnt[kind].save(tmp_path / "model")
    back = Classifier.load(tmp_path / "model")
    assert head_kind(back.module()) == kind
    assert np.array_equal(run_torch(back, "cpu")(PIXELS), run_torch(learnt[kind], "cpu")(PIXELS))


@pytest.mark.parametrize("kind", OTHERS)
def test_it_is_exported_and_quantized(kind, learnt, dataset, context):
    model = replace(learnt[kind], graph=to_onnx(learnt[kind]))
    ours, theirs = run_torch(model, "cpu")(PIXELS), run_onnx(model, "cpu")(PIXELS)
    np.testing.assert_allclose(theirs, ours, atol=1e-3)
    small = quantize(model, dataset, None, Quantize(max_accuracy_drop=100), context=context)
    assert small.precision == "int8"
    assert run_onnx(small, "cpu")(PIXELS).shape == (4, 10)


@pytest.mark.parametrize("kind", OTHERS)
def test_it_is_pruned_and_built_again(kind, learnt, dataset, context, tmp_path):
    network = structured(learnt[kind], dataset, Prune(ratio=0.3), context)
    pruned = replace(learnt[kind], network=network)
    assert pruned.parameters < 0.8 * learnt[kind].parameters
    pruned.save(tmp_path / "small")
    back = Classifier.load(tmp_path / "small")
    assert np.array_equal(run_torch(back, "cpu")(PIXELS), run_torch(pruned, "cpu")(PIXELS))


@pytest.mark.parametrize("kind", OTHERS)
def test_a_new_head_can_be_fitted_on_its_features(kind, learnt, dataset, context, tmp_path):
    again = probe(learnt[kind], dataset, context=context)
    assert again.card.steps[-1].figures["val_accuracy"] > 0.6
    again.save(tmp_path / "again")
    assert Classifier.load(tmp_path / "again").digest == again.digest


def test_a_model_goes_on_with_its_head_or_with_the_one_asked_for(learnt, dataset, policy, context):
    settings = {"epochs": 1, "batch_size": 60, "trainable": "head"}
    kept = fine_tune(learnt["mlp"], dataset, policy, FineTune(**settings), context=context)
    assert head_kind(kept.module()) == "mlp"
    asked = FineTune(head="linear", **settings)
    changed = fine_tune(learnt["mlp"], dataset, policy, asked, context=context)
    assert head_kind(changed.module()) == "linear"
    assert head_root(changed.module()) == "classifier"


def test_a_module_of_ones_own_gets_its_head_back(dataset, tmp_path):
    network = timm.create_model("test_resnet", num_classes=10).eval()
    network.pretrained_cfg = {}
    model = replace(wrap(network, CONTRACT), classes=dataset.classes)
    replace_head(model.module(), "mlp", 10)
    model.save(tmp_path / "own")
    fresh = timm.create_model("test_resnet", num_classes=10)
    assert Classifier.load(tmp_path / "own", network=fresh).digest == model.digest


@pytest.mark.parametrize("kind", HEADS)
def test_every_head_replaces_every_other(kind):
    network = timm.create_model("test_resnet", num_classes=7).eval()
    width = head(network).in_features
    for before in HEADS:
        replace_head(network, before, 3)
        replace_head(network, kind, 5)
        assert head_kind(network) == kind
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 5)
        assert next(network.get_submodule(head_root(network)).children(), head(network))
    assert network.num_features == width


def test_features_of_one_length_are_not_taken_for_plain_ones():
    network = timm.create_model("test_resnet", num_classes=7).eval()
    plain = digest_weights(backbone(network))
    replace_head(network, "cosine", 7)
    assert digest_weights(backbone(network)) != plain


def test_two_heads_are_not_replaced_by_one():
    network = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=4).eval()
    with pytest.raises(ModelFileError, match="has two heads, which a mlp head cannot replace"):
        replace_head(network, "mlp", 4)
