"""One suite over every place that a classifier may come from."""

import json
import socket

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from acclimate.errors import ModelFileError
from acclimate.models.classifier import Classifier
from acclimate.models.model_names import PACKAGED
from acclimate.models.pretrained import PRETRAINED, pretrained, wrap
from acclimate.models.runtime import run_torch
from acclimate.models.settings import Model
from acclimate.models.structure import head


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """A name of each kind, with a hub that holds one network and a folder that holds another."""
    hub, saved = tmp_path_factory.mktemp("hub"), tmp_path_factory.mktemp("saved") / "model"
    torch.manual_seed(0)
    snapshot = hub / "models--timm--test_resnet.r160_in1k" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("abc")
    weights = timm.create_model("test_resnet").state_dict()
    safetensors.torch.save_file(weights, snapshot / "model.safetensors")
    wrap(timm.create_model("test_efficientnet", num_classes=3)).save(saved)
    return {
        "hub": str(hub),
        "packaged": "efficientnet-lite0",
        "timm": "timm:test_resnet",
        "folder": str(saved),
    }


@pytest.fixture(autouse=True)
def _offline(monkeypatch, names):
    def refuse(*args, **kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", names["hub"])
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


UNKNOWN = {
    "packaged": "efficientnet-lite9",
    "timm": "timm:test_vit",  # an architecture whose weights were not fetched
    "folder": "no/such/folder",
}


def test_every_kind_is_tried(names):
    assert {"hub", *PRETRAINED} == set(names)
    assert set(PRETRAINED) == set(UNKNOWN)


@pytest.mark.parametrize("kind", PRETRAINED)
def test_a_pretrained_classifier_is_ready_to_run(kind, names):
    model = PRETRAINED[kind](names[kind])
    assert isinstance(model, Classifier)
    assert not model.network.training
    assert model.precision == "float32"
    assert model.graph is None
    assert len(model.classes) == len(set(model.classes)) == head(model.network).out_features
    assert all(isinstance(name, str) and name for name in model.classes)
    assert model.card.source
    assert model.card.licence
    assert model.card.steps == ()
    size = model.contract.image_size
    found = run_torch(model, "cpu")(np.zeros((2, size, size, 3), np.uint8))
    assert found.shape == (2, len(model.classes))
    assert np.isfinite(found).all()


@pytest.mark.parametrize("kind", PRETRAINED)
def test_a_name_gives_the_same_classifier_each_time(kind, names):
    first, second = (pretrained(Model(name=names[kind])) for _ in range(2))
    assert first.digest == second.digest
    assert first.network is not second.network


@pytest.mark.parametrize("kind", PRETRAINED)
def test_a_pretrained_classifier_survives_the_disk(kind, names, tmp_path):
    model = pretrained(Model(name=names[kind]))
    model.save(tmp_path / "model")
    assert Classifier.load(tmp_path / "model").digest == model.digest
    assert json.loads((tmp_path / "model" / "model.json").read_text())["card"]["source"]


@pytest.mark.parametrize("kind", PRETRAINED)
def test_what_cannot_be_had_is_refused_in_one_sentence(kind):
    with pytest.raises(ModelFileError) as caught:
        pretrained(Model(name=UNKNOWN[kind]))
    assert "\n" not in str(caught.value)


def test_three_networks_carry_their_weights_in_packages():
    assert list(PACKAGED) == ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_weights_know_a_palace_when_they_see_one(name):
    model = pretrained(Model(name=name))
    assert model.card.licence == "Apache-2.0"
    assert (model.contract.mean, model.contract.std) == ((0.5,) * 3, (0.5,) * 3)
    assert len(set(model.classes)) == 1000
    photo = model.contract.fit(Image.fromarray(load_sample_image("china.jpg")))
    logits = run_torch(model, "cpu")(np.stack([photo]))[0]
    assert model.classes[int(logits.argmax())] == "palace"
