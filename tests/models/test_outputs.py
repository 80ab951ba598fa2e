"""Networks that return more than logits, or wrap them."""

import copy
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import acclimate
from acclimate.data.images.contract import InputContract
from acclimate.errors import ModelFileError
from acclimate.models.classifier import Classifier
from acclimate.models.onnx.export import to_onnx
from acclimate.models.outputs import (
    auxiliary_logits,
    auxiliary_of,
    main_logits,
    return_everything,
    return_logits,
)
from acclimate.models.pretrained import wrap
from acclimate.models.runtime import run_onnx, run_torch

CONTRACT = InputContract(32, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0)


@dataclass
class ModelOutput:
    """As of transformers."""

    loss: torch.Tensor | None
    logits: torch.Tensor
    hidden: torch.Tensor


Inception = namedtuple("Inception", ["logits", "aux_logits"])
Googlenet = namedtuple("Googlenet", ["logits", "aux_logits2", "aux_logits1"])

FORMS = {
    "plain": lambda logits, aux, features: logits,
    "tuple": lambda logits, aux, features: (logits, features),
    "list": lambda logits, aux, features: [logits, features],
    "named tuple": lambda logits, aux, features: Inception(logits, aux),
    "mapping": lambda logits, aux, features: {"features": features, "logits": logits},
    "segmentation's": lambda logits, aux, features: OrderedDict(out=logits, aux=aux),
    "first": lambda logits, aux, features: {"score": logits, "features": features},
    "dataclass": lambda logits, aux, features: ModelOutput(None, logits, features),
    "nested": lambda logits, aux, features: {"output": {"logits": logits}},
}


class Network(nn.Module):
    """Two heads on the mean color; `form` decides what is returned, in training or always."""

    def __init__(self, form, *, always=True, classes=3):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=4)
        self.aux1, self.fc = nn.Linear(6, classes), nn.Linear(6, classes)
        self.form, self.always = form, always

    def forward(self, images):
        features = self.conv(images).relu().mean((2, 3))
        if not (self.training or self.always):
            return self.fc(features)
        return FORMS[self.form](self.fc(features), self.aux1(features), features)


@pytest.fixture
def images():
    return torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)


@pytest.mark.parametrize("form", FORMS)
def test_the_logits_of_every_form_are_found(form):
    logits, aux, features = torch.zeros(2, 3), torch.ones(2, 3), torch.zeros(2, 6)
    output = FORMS[form](logits, aux, features)
    assert main_logits(output) is logits
    found = auxiliary_logits(output)
    assert [a is aux for a in found] == [True] * (form in ("named tuple", "segmentation's"))


def test_an_output_without_a_tensor_has_no_logits():
    assert main_logits({"a": 3, "b": None}) is None
    assert main_logits(None) is None


@pytest.mark.parametrize("always", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_a_network_returns_its_logits_alone_until_it_is_let_go(form, always, images):
    network = Network(form, always=always)
    plain = network.eval()(images)
    return_logits(network, images)
    for training in (True, False):
        assert network.train(training)(images).shape == (2, 3)
    return_everything(network)
    assert type(network(images)) is type(plain)


def test_auxiliary_logits_are_given_once_and_a_network_in_between_can_be_copied(images):
    network = Network("named tuple").train()
    return_logits(network, images)
    logits = network(images)
    copy.deepcopy(network)
    ((weight, found),) = auxiliary_of(network)
    assert weight == 0.4
    assert found.requires_grad
    assert found.shape == logits.shape
    assert auxiliary_of(network) == []
    network.eval()(images)
    assert auxiliary_of(network) == []


def test_the_loss_of_the_auxiliary_heads_has_the_weight_of_their_papers():
    torch.manual_seed(0)
    images, labels = torch.randn(6, 3, 16, 16), torch.arange(6) % 3
    loader = DataLoader(TensorDataset(images, labels), batch_size=6)
    loss = {}
    for form in ("plain", "named tuple"):
        torch.manual_seed(0)
        network = Network(form, always=False)
        main, aux = network.fc.weight.clone(), network.aux1.weight.clone()
        torch.manual_seed(0)
        tuned = acclimate.fine_tune(
            network, loader, device="cpu", epochs=1, lr=0.1, optimizer="sgd", schedule="constant",
            warmup=0, label_smoothing=0.0,
        )  # fmt: skip
        assert not torch.equal(tuned.network.fc.weight, main)
        assert torch.equal(tuned.network.aux1.weight, aux) == (form == "plain")
        loss[form] = tuned.curve[-1].train_loss
        with torch.no_grad():
            logits = Network.forward(network.train(), images)
    cross = nn.functional.cross_entropy
    assert loss["plain"] == pytest.approx(float(cross(logits.logits, labels)), abs=1e-5)
    expected = cross(logits.logits, labels) + 0.4 * cross(logits.aux_logits, labels)
    assert loss["named tuple"] == pytest.approx(float(expected), abs=1e-5)


def test_two_auxiliary_heads_count_less_than_one(images):
    network = Network("plain").train()
    return_logits(network, images)
    assert auxiliary_of(network) == []
    network.form = "named tuple"
    FORMS["two"] = lambda logits, aux, features: Googlenet(logits, aux, aux + 1)
    network.form = "two"
    return_logits(network, images)
    network(images)
    assert [weight for weight, _ in auxiliary_of(network)] == [0.3, 0.3]
    del FORMS["two"]


@pytest.mark.parametrize("form", ["dataclass", "mapping", "tuple", "named tuple"])
def test_a_classifier_is_made_of_it_saved_exported_and_loaded(form, tmp_path):
    model = wrap(Network(form), CONTRACT)
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8).numpy()
    logits = run_torch(model, "cpu")(pixels)
    assert logits.shape == (2, 3)
    model.save(tmp_path / "model")
    back = Classifier.load(tmp_path / "model", network=Network(form))
    assert run_torch(back, "cpu")(pixels) == pytest.approx(logits, abs=1e-6)
    graph = Classifier(
        model.architecture, None, model.classes, model.contract, model.card, graph=to_onnx(model)
    )
    assert run_onnx(graph)(pixels) == pytest.approx(logits, abs=1e-4)


def test_a_data_set_with_other_classes_gives_all_heads_that_many(dataset, context):
    model = acclimate.fine_tune(
        Network("named tuple", always=False), dataset, contract=CONTRACT, context=context,
        policy=acclimate.augment(policy="basic"), epochs=1, lr=0.01,
    )  # fmt: skip
    assert model.classes == dataset.classes
    assert model.module().aux1.out_features == len(dataset.classes)


def test_a_network_whose_layers_are_all_frozen_is_an_error_in_a_sentence():
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    loader = DataLoader(TensorDataset(torch.randn(4, 3, 8, 8), torch.arange(4) % 3), batch_size=4)
    with pytest.raises(ModelFileError) as caught:
        acclimate.fine_tune(network.requires_grad_(False), loader, device="cpu", epochs=1)
    assert str(caught.value) == (
        "all parameters of Sequential are frozen, so there is nothing to train. Set requires_grad "
        "of the layers to train, such as the head: layer.requires_grad_(True)."
    )


class NeedsSixteen(Network):
    """As Inception v3: in training its auxiliary head needs larger images."""

    def forward(self, images):
        if self.training and images.shape[-1] < 16:
            raise RuntimeError("kernel is larger than the input")
        return super().forward(images)


def test_a_network_that_cannot_be_trained_at_a_size_says_so():
    loader = DataLoader(TensorDataset(torch.randn(4, 3, 8, 8), torch.arange(4) % 3), batch_size=4)
    with pytest.raises(ModelFileError) as caught:
        acclimate.fine_tune(NeedsSixteen("plain"), loader, device="cpu", epochs=1)
    assert str(caught.value) == (
        "NeedsSixteen cannot be trained on images (3, 8, 8): in training mode its code fails "
        "(kernel is larger than the input)."
    )
