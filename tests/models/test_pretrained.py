"""Where a classifier may come from: packages, timm, files, folders, modules of the user's."""

import contextlib
import io
import os
import pickle
import socket
import time

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from acclimate.data.images.contract import InputContract
from acclimate.errors import ModelFileError
from acclimate.models.classifier import Classifier
from acclimate.models.pretrained import pretrained, resized, wrap
from acclimate.models.runtime import run_torch
from acclimate.models.settings import Model
from acclimate.models.structure import backbone, head, with_head

SMALL = "timm:test_resnet"
CONTRACT = InputContract(32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bilinear", 1.0)
PICTURES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def net(classes=7):
    torch.manual_seed(classes)
    return timm.create_model("test_resnet", num_classes=classes).eval()


def logits(network, pictures=PICTURES):
    with torch.inference_mode():
        return network(pictures)


def local(path, name=SMALL):
    return pretrained(Model(name=name, weights=path))


def message(settings):
    with pytest.raises(ModelFileError) as caught:
        pretrained(settings)
    assert caught.value.exit_code == 2
    return str(caught.value)


class Plain(nn.Module):
    """A network of the user's own, which says nothing of its input."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=4)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(torch.relu(self.stem(x)).mean((2, 3)))


# Packaged weights


def test_packaged_weights_expect_pixels_from_minus_one_to_one():
    contract = pretrained(Model()).contract
    assert (contract.mean, contract.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert (contract.image_size, contract.interpolation, contract.crop) == (224, "bicubic", 0.875)


def test_every_imagenet_class_has_a_name_of_its_own():
    classes = pretrained(Model()).classes
    assert len(classes) == len(set(classes)) == 1000
    assert [name for name in classes if name.startswith("crane")] == ["crane (134)", "crane (517)"]


def test_the_image_size_of_the_recipe_changes_the_contract_and_nothing_else():
    full, small = pretrained(Model()), pretrained(Model(image_size=64))
    assert small.contract == InputContract(64, (0.5,) * 3, (0.5,) * 3, "bicubic", 0.875)
    assert (small.classes, small.card) == (full.classes, full.card)
    assert torch.equal(logits(small.network), logits(full.network))


def test_an_unknown_name_offers_the_nearest_ones():
    assert message(Model(name="effcientnet-lite0")) == (
        "no model or model folder 'effcientnet-lite0'. "
        "Did you mean 'efficientnet-lite0' or 'efficientnet-lite2'?"
    )


def test_a_timm_name_without_its_prefix_is_offered_with_it():
    said = message(Model(name="resnet18"))
    assert said.startswith("no model or model folder 'resnet18'. Did you mean 'timm:resnet18'")


# timm's names


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No way out, and nothing fetched before; gives the seconds that somebody wanted to wait."""

    def refuse(*args, **kwargs):
        raise OSError("network is unreachable")

    waited = []
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


def test_a_timm_name_without_internet_gives_one_clear_sentence(offline):
    assert message(Model(name=SMALL)) == (
        "timm:test_resnet: the weights of 'test_resnet' cannot be downloaded from the model hub. "
        "Check the connection, give a local file with --set model.weights=FILE, or use "
        "efficientnet-lite0, whose weights are installed with acclimate."
    )


def test_a_timm_name_without_internet_is_refused_without_a_long_wait(offline):
    message(Model(name=SMALL))
    assert sum(offline) < 5


def test_a_timm_name_fetched_before_needs_no_internet(offline, tmp_path):
    known = net(1000)
    folder = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    safetensors.torch.save_file(
        known.state_dict(), folder / "snapshots" / "abc" / "model.safetensors"
    )
    model = pretrained(Model(name=SMALL))
    assert torch.equal(logits(model.network), logits(known))
    assert model.contract == InputContract(160, (0.5,) * 3, (0.5,) * 3, "bilinear", 0.95)
    assert model.card.licence == "apache-2.0"
    assert model.card.source == f"timm {timm.__version__}: test_resnet"
    assert sum(offline) < 5


def test_a_mistyped_timm_name_offers_the_nearest_one():
    said = message(Model(name="timm:test_resnt"))
    assert said.startswith("timm has no architecture 'test_resnt'. Did you mean 'test_resnet'")


def test_a_timm_name_with_an_unknown_tag_is_refused_in_one_sentence():
    said = message(Model(name="timm:resnet18.nonsense"))
    assert "nonsense" in said
    assert "\n" not in said


# Local weights


def _safetensors(weights, path):
    safetensors.torch.save_file(weights, path)


def _wrapped(weights, path):
    torch.save({"state_dict": weights, "epoch": 3}, path)


def _distributed(weights, path):
    torch.save({f"module.{name}": tensor for name, tensor in weights.items()}, path)


@pytest.mark.parametrize(
    ("write", "suffix"),
    [(_safetensors, ".safetensors"), (torch.save, ".pth"), (_wrapped, ".pt"), (_distributed, "")],
    ids=["safetensors", "state dict", "wrapped", "distributed"],
)
def test_a_local_file_gives_its_own_logits_and_as_many_outputs(tmp_path, write, suffix):
    known, path = net(7), tmp_path / f"weights{suffix}"
    write(known.state_dict(), path)
    model = local(path)
    assert torch.equal(logits(model.network), logits(known))
    assert model.classes == tuple(f"output #{i}" for i in range(7))
    assert model.architecture == SMALL
    assert model.contract == InputContract(160, (0.5,) * 3, (0.5,) * 3, "bilinear", 0.95)
    assert model.card.source == f"local file weights{suffix}"


def test_a_local_file_may_be_of_the_default_architecture(tmp_path):
    known = timm.create_model("tf_efficientnet_lite0", num_classes=3).eval()
    safetensors.torch.save_file(known.state_dict(), tmp_path / "mine.safetensors")
    model = local(tmp_path / "mine.safetensors", "efficientnet-lite0")
    assert model.architecture == "timm:tf_efficientnet_lite0"
    assert torch.equal(logits(model.network), logits(known))


def test_a_local_file_without_an_architecture_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(net().state_dict(), path)
    assert message(Model(name="resnet", weights=path)) == (
        f"{path}: a weights file needs an architecture of timm, not 'resnet'. "
        "Give --set model.name=timm:NAME."
    )
    assert message(Model(name=str(path))) == (
        f"{path}: a weights file needs the name of its architecture. "
        "Give --set model.name=timm:NAME --set model.weights=FILE."
    )


def test_a_missing_weights_file_is_named(tmp_path):
    path = tmp_path / "gone.pth"
    assert message(Model(name=SMALL, weights=path)) == f"{path}: no such weights file."


def test_a_folder_that_holds_no_model_is_refused(tmp_path):
    assert message(Model(name=str(tmp_path))) == (
        f"{tmp_path}: not a model folder: it has no model.json. "
        "Give the folder that a stage wrote, or a name such as efficientnet-lite0."
    )


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def _pickled(value, path):
    path.write_bytes(pickle.dumps(value))


@pytest.mark.parametrize("write", [_pickled, torch.save], ids=["pickle", "torch.save"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path, write, suffix):
    mark, path = tmp_path / "mark", tmp_path / f"weights{suffix}"
    write({**net().state_dict(), "fc.bias": Bomb(mark)}, path)
    said = message(Model(name=SMALL, weights=path))
    assert said.startswith(f"{path}: not a valid weights file (")
    assert said.endswith("Give a .safetensors file, or a plain state dict saved with torch.save.")
    assert not mark.exists()
    with contextlib.suppress(Exception):
        torch.load(io.BytesIO(path.read_bytes()), weights_only=False)
    assert mark.exists(), "the bomb was no bomb, so nothing was shown"


def test_a_whole_pickled_network_is_refused(tmp_path):
    path = tmp_path / "network.pth"
    torch.save(net(), path)
    assert "not a valid weights file" in message(Model(name=SMALL, weights=path))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("part", [0, 7, 0.5, 0.999])
def test_a_truncated_weights_file_is_refused(tmp_path, suffix, part):
    path = tmp_path / f"weights{suffix}"
    (_safetensors if suffix == ".safetensors" else torch.save)(net().state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: part if isinstance(part, int) else int(part * len(whole))])
    said = message(Model(name=SMALL, weights=path))
    assert said.startswith(f"{path}: not a valid weights file (")


@pytest.mark.parametrize("value", [[torch.zeros(3)], {"a": 1}, torch.zeros(3)], ids=repr)
def test_a_file_that_holds_no_state_dict_is_refused(tmp_path, value):
    path = tmp_path / "other.pth"
    torch.save(value, path)
    assert message(Model(name=SMALL, weights=path)) == (
        f"{path}: the file has no state dict (name to tensor)."
    )


MISFITS = {
    "a shorter bias": ({"fc.bias": torch.zeros(3)}, "size mismatch for fc.bias"),
    "a wider layer": ({"conv1.0.weight": torch.zeros(99, 3, 3, 3)}, "size mismatch for conv1.0"),
    "a weight too much": ({"more": torch.zeros(3)}, 'Unexpected key(s) in state_dict: "more"'),
    "a weight too few": ({"bn1.weight": None}, 'Missing key(s) in state_dict: "bn1.weight"'),
    "a head of no dimension": ({"fc.weight": torch.zeros(())}, "fc.weight"),
    "a head without outputs": ({"fc.weight": torch.zeros(0, 96)}, "fc.weight"),
    "no head": (
        {"fc.weight": None},
        "the weights are not of timm:test_resnet: they have no fc.weight",
    ),
}


@pytest.mark.parametrize(("change", "reason"), MISFITS.values(), ids=MISFITS.keys())
def test_weights_of_other_shapes_are_refused_with_the_first_that_does_not_fit(
    tmp_path, change, reason
):
    path = tmp_path / "weights.safetensors"
    weights = {**net().state_dict(), **change}
    _safetensors({name: tensor for name, tensor in weights.items() if tensor is not None}, path)
    said = message(Model(name=SMALL, weights=path))
    assert said.startswith(f"{path}: ")
    assert reason in said
    assert "\n" not in said


# Folders of ours


def test_a_folder_of_ours_is_a_name(tmp_path, imagenet):
    imagenet.save(tmp_path / "model")
    again = pretrained(Model(name=str(tmp_path / "model")))
    assert again.digest == imagenet.digest
    assert again.card == imagenet.card


# Input sizes


def test_the_same_size_gives_the_same_classifier(imagenet):
    assert resized(imagenet, imagenet.contract.image_size) is imagenet


def test_a_network_of_one_size_says_so():
    model = wrap(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32**2, 4), nn.Linear(4, 2)), CONTRACT)
    with pytest.raises(ModelFileError) as caught:
        resized(model, 64)
    assert str(caught.value) == (
        "model.image_size: torch.nn.modules.container.Sequential only accepts images of 32 px. "
        "Leave image_size at auto."
    )


def test_an_exported_graph_does_not_survive_another_size():
    model = wrap(Plain(), CONTRACT)
    exported = Classifier(
        model.architecture, model.network, model.classes, CONTRACT, model.card, graph=b"graph"
    )
    assert resized(exported, 48).graph is None


# Modules of the user's own


def test_a_plain_module_needs_a_contract_and_says_so():
    with pytest.raises(ModelFileError) as caught:
        wrap(Plain())
    assert str(caught.value) == (
        "Plain has no input contract. Give contract=InputContract(image_size=..., "
        "mean=..., std=..., interpolation='bicubic', crop=1.0)."
    )


def test_a_plain_module_with_a_contract_is_a_classifier():
    network = Plain()
    model = wrap(network, CONTRACT)
    assert network.training
    assert not model.network.training
    assert model.contract == CONTRACT
    assert model.classes == tuple(f"output #{i}" for i in range(5))
    assert model.architecture == f"module:{__name__}.Plain"


def test_a_module_of_timm_needs_no_contract():
    network = timm.create_model("test_resnet", num_classes=4)
    model = wrap(network)
    assert model.architecture == SMALL
    assert model.contract == InputContract(160, (0.5,) * 3, (0.5,) * 3, "bilinear", 0.95)
    assert wrap(network, CONTRACT).contract == CONTRACT


def test_the_contract_of_a_module_is_what_its_pixels_go_through():
    network, pixels = Plain(), torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (CONTRACT.mean, CONTRACT.std))
    expected = logits(network.eval(), (pixels.permute(0, 3, 1, 2) / 255 - mean) / std)
    found = torch.from_numpy(run_torch(wrap(network, CONTRACT), "cpu")(pixels.numpy()))
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_module_without_a_fully_connected_layer_is_refused():
    with pytest.raises(ModelFileError) as caught:
        wrap(nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), CONTRACT)
    assert str(caught.value) == (
        "Sequential has no fully connected layer to replace as its head. "
        "End the network with torch.nn.Linear."
    )


def test_a_timm_network_whose_head_is_a_convolution_gets_a_linear_one(tmp_path):
    network = timm.create_model("resnetv2_18", num_classes=4).eval()
    safetensors.torch.save_file(network.state_dict(), tmp_path / "conv.safetensors")
    for model in (wrap(network), local(tmp_path / "conv.safetensors", "timm:resnetv2_18")):
        assert head(model.network).out_features == 4
        assert torch.allclose(logits(model.network), logits(network), atol=1e-4)
    model.save(tmp_path / "model")
    assert Classifier.load(tmp_path / "model").digest == model.digest
    assert isinstance(network.head.fc, torch.nn.Conv2d)


def test_a_distilled_transformer_is_fitted_by_both_its_heads():
    network = timm.create_model("deit_tiny_distilled_patch16_224", depth=1).eval()
    pictures = torch.randn(2, 3, 224, 224)
    assert torch.equal(logits(wrap(network).network, pictures), logits(network, pictures))
    layer = nn.Linear(head(network).in_features, 5)
    with torch.inference_mode():
        expected = layer(backbone(network)(pictures))
    assert torch.allclose(logits(with_head(network, layer).eval(), pictures), expected, atol=1e-5)


def test_a_network_whose_heads_differ_in_use_is_refused():
    with pytest.raises(ModelFileError, match="VOLO does not compute its logits by one"):
        wrap(timm.create_model("volo_d1_224"))
