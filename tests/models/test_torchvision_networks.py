"""A network of torchvision is saved and loaded by its name."""

import pytest
import torch
import torchvision
from torch import nn

import acclimate
from acclimate.data.images.contract import InputContract
from acclimate.errors import ModelFileError
from acclimate.models.pretrained import wrap
from acclimate.models.runtime import run_torch
from acclimate.models.torchvision_networks import create_torchvision, torchvision_name

CONTRACT = InputContract(32, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0)


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet34", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5"]
)
def test_the_name_is_found_by_the_layers(name):
    network = torchvision.models.get_model(name, weights=None, num_classes=7)
    if name == "squeezenet1_1":  # its head is a convolution
        with pytest.raises(ModelFileError):
            torchvision_name(network)
        return
    assert torchvision_name(network) == f"torchvision:{name}"


def test_a_changed_network_has_no_name():
    network = torchvision.models.resnet18(num_classes=3)
    network.maxpool = nn.Identity()
    assert torchvision_name(network) is None
    network = torchvision.models.resnet18(num_classes=3)
    network.fc = nn.Sequential(nn.Dropout(), nn.Linear(512, 3))
    assert torchvision_name(network) is None
    assert torchvision_name(nn.Linear(3, 3)) is None


def test_a_trained_resnet_is_loaded_without_the_module(dataset, context, tmp_path):
    model = acclimate.probe(
        torchvision.models.resnet18(weights=None), dataset, contract=CONTRACT, context=context
    )
    assert model.architecture == "torchvision:resnet18"
    model.save(tmp_path / "model")
    back = acclimate.load(tmp_path / "model")
    assert back.digest == model.digest
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8).numpy()
    assert run_torch(back, "cpu")(pixels) == pytest.approx(run_torch(model, "cpu")(pixels))


def test_a_model_saved_before_names_were_known_is_still_loaded_with_its_module(tmp_path):
    model = wrap(torchvision.models.resnet18(num_classes=3), CONTRACT)
    model.save(tmp_path / "model")
    back = acclimate.load(tmp_path / "model", network=torchvision.models.resnet18(num_classes=3))
    assert back.digest == model.digest


def test_an_unknown_name_in_a_model_folder_is_refused():
    with pytest.raises(ModelFileError, match="Did you mean 'resnet18'"):
        create_torchvision("torchvision:resnet81", 3)
    with pytest.raises(ModelFileError, match="no classifier 'fcn_resnet50'"):
        create_torchvision("torchvision:fcn_resnet50", 3)
