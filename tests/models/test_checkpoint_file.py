"""Weights as training programs leave them: wrapped, prefixed, averaged, without a head."""

import argparse
import logging
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from acclimate.errors import ModelFileError
from acclimate.models.pretrained import pretrained
from acclimate.models.settings import Model

NAME = "timm:test_resnet"


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=3).eval()


@pytest.fixture(scope="module")
def state(net):
    return net.state_dict()


def saved(value, tmp_path, name="weights.pth"):
    torch.save(value, tmp_path / name)
    return tmp_path / name


def loaded(path):
    return pretrained(Model(name=NAME, weights=path))


def refusal(path):
    with pytest.raises(ModelFileError) as caught:
        loaded(path)
    return str(caught.value).removeprefix(f"{path}: ")


def is_same(model, net):
    with torch.inference_mode():
        pixels = torch.rand(2, 3, 160, 160)
        return torch.equal(model.network(pixels), net(pixels))


def prefixed(state, prefix):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "prefix",
    [
        "module.", "_orig_mod.", "model.", "timm_model.", "backbone.", "module._orig_mod.",
        "_orig_mod.module.", "model.backbone.", "my_net.encoder.",
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_state_dict"])
def test_wrappings_and_prefixes_are_removed(net, state, tmp_path, prefix, key):
    value = prefixed(state, prefix)
    model = loaded(saved(value if key is None else {key: value, "epoch": 3}, tmp_path))
    assert is_same(model, net)
    assert len(model.classes) == 3


def test_a_checkpoint_of_timm_gives_its_averaged_weights_and_says_so(net, state, tmp_path, caplog):
    others = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    value = {
        "arch": "test_resnet", "epoch": 3, "state_dict": others, "state_dict_ema": state,
        "args": argparse.Namespace(model="test_resnet", lr=0.1), "version": 2, "metric": 77.7,
    }  # fmt: skip
    path = saved(value, tmp_path, "model_best.pth.tar")
    model = loaded(path)
    assert is_same(model, net)
    assert model.card.source == "local file model_best.pth.tar (state_dict_ema)"
    assert f"{path}: the averaged weights are used (state_dict_ema), as timm does" in caplog.text


def test_a_checkpoint_of_lightning_is_read_without_its_loss(net, state, tmp_path, caplog):
    caplog.set_level(logging.INFO, "acclimate")
    value = {
        "epoch": 3, "global_step": 9, "pytorch-lightning_version": "2.4.0", "loops": {},
        "hyper_parameters": {"lr": 0.1}, "callbacks": {}, "optimizer_states": [],
        "state_dict": {**prefixed(state, "model."), "criterion.weight": torch.ones(3)},
    }  # fmt: skip
    assert is_same(loaded(saved(value, tmp_path, "last.ckpt")), net)
    told = "'model.' is left out of the names of the weights; 1 other tensor is not used"
    assert told in caplog.text


def test_averaged_models_of_pytorch_are_read(net, tmp_path):
    averaged = torch.optim.swa_utils.AveragedModel(net)
    assert is_same(loaded(saved(averaged.state_dict(), tmp_path)), net)


def test_a_file_without_a_head_gets_one_of_zeros_and_says_so(net, state, tmp_path, caplog):
    body = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    path = saved(body, tmp_path)
    first, again = loaded(path), loaded(path)
    assert first.digest == again.digest  # a random head would make each run start anew
    with torch.inference_mode():
        pixels = torch.rand(2, 3, 160, 160)
        assert torch.equal(first.network.forward_features(pixels), net.forward_features(pixels))
        assert not first.network(pixels).any()
    assert f"{path}: the file holds no head (fc): train one with" in caplog.text


@pytest.mark.parametrize("name", ["weights.pth", "weights.bin", "weights"])
def test_a_file_of_safetensors_is_known_by_its_content(net, state, tmp_path, name):
    safetensors.torch.save_file(state, tmp_path / name)
    assert is_same(loaded(tmp_path / name), net)


def test_several_networks_in_a_file_are_refused_by_their_names(state, tmp_path):
    value = {**prefixed(state, "student."), **prefixed(state, "teacher.")}
    assert refusal(saved(value, tmp_path)).startswith(
        "the file holds several networks: their names begin with 'student.', 'teacher.'. Save"
    )


def test_names_of_another_network_are_told(tmp_path):
    value = {"stages.0.conv.weight": torch.zeros(1), "stages.0.conv.bias": torch.zeros(1)}
    assert refusal(saved(value, tmp_path)) == (
        "the weights are of another network: their names begin with 'stages.', and those of this "
        "network with 'layer3.', 'layer2.', 'layer4.', …. "
        "Give the architecture that they were trained with."
    )


def test_a_state_dict_with_other_values_names_them(state, tmp_path):
    assert "it also holds 'epoch' (int)." in refusal(saved({**state, "epoch": 3}, tmp_path))


def test_what_could_run_code_is_named_and_nothing_else_of_the_foreign_message(state, tmp_path):
    path = saved({"state_dict": state, "folder": Path("x")}, tmp_path)
    said = refusal(path)
    assert said.startswith("not a valid weights file (it holds pathlib.")
    assert "which could run code when it is loaded)" in said
    assert "\x1b" not in said
