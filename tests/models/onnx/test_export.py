"""A classifier as one ONNX file, checked on real images and read without us."""

import copy
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from acclimate.data.images.contract import InputContract
from acclimate.errors import ModelFileError
from acclimate.models.classifier import Classifier
from acclimate.models.onnx.export import (
    EXPORTERS,
    agreement,
    export,
    export_network,
    read_metadata,
    to_onnx,
    with_metadata,
)
from acclimate.models.pretrained import wrap
from acclimate.models.runtime import run_onnx, run_torch
from acclimate.models.settings import Export

CONTRACT = InputContract(32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bilinear", 0.9)
NAMES = ("Ärger", "Mönch", "木", 'a"b', "c,d", "e\\f", "", " ", "😀", "plain")


class Plain(nn.Module):
    """A network of the user's own."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=4)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(torch.relu(self.stem(x)).mean((2, 3)))


class Undecided(Plain):
    """Its path depends on its input, which no graph can hold."""

    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else super().forward(-x)


class TwoFaced(Plain):
    """Is another network while it is exported."""

    def forward(self, x):
        logits = super().forward(x)
        return -logits if torch.compiler.is_exporting() else logits


def classifier(network, classes=NAMES):
    torch.manual_seed(0)
    return replace(wrap(network, CONTRACT), classes=classes)


@pytest.fixture(scope="module")
def exported(start, dataset, context):
    """The probe with its graph. Never changed."""
    return export(start, dataset, context=context)


@pytest.fixture(scope="module")
def folder(exported, tmp_path_factory):
    """The same on disk. Read only."""
    place = tmp_path_factory.mktemp("exported") / "model"
    exported.save(place)
    return place


def session(path):
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_the_graph_is_one_file_with_its_weights_inside(exported, folder):
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    assert not any(onnx.external_data_helper.uses_external_data(t) for t in model.graph.initializer)
    assert sorted(p.name for p in folder.iterdir()) == [
        "model.json",
        "model.onnx",
        "model.safetensors",
        "preprocess.py",
        "used_images.safetensors",
    ]
    onnx.checker.check_model(model, full_check=True)
    assert exported.graph == (folder / "model.onnx").read_bytes()


def test_the_file_carries_the_contract_and_the_classes(exported):
    assert read_metadata(exported.graph) == (exported.contract, exported.classes)
    props = {p.key: p.value for p in onnx.load_from_string(exported.graph).metadata_props}
    assert json.loads(props["acclimate.classes"]) == [str(digit) for digit in range(10)]
    assert json.loads(props["acclimate.contract"]) == {
        "image_size": 32,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "crop": 0.875,
        "decoding": 2,
    }
    assert "efficientnet-lite0" in props["acclimate.source"]


@pytest.mark.parametrize("count", [1, 2, 33])
def test_the_graph_takes_any_number_of_images(folder, start, count):
    pixels = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), np.uint8)
    runner = session(folder / "model.onnx")
    (inputs,), (outputs,) = runner.get_inputs(), runner.get_outputs()
    assert (inputs.name, inputs.shape[1:], inputs.type) == ("images", [3, 32, 32], "tensor(float)")
    assert (outputs.name, outputs.shape[1:]) == ("logits", [10])
    (found,) = runner.run(["logits"], {"images": start.contract.normalize(pixels)})
    assert np.abs(found - run_torch(start, "cpu")(pixels)).max() < 1e-3


def test_the_card_says_how_the_graph_agrees_on_real_images(exported, start, dataset):
    step = exported.card.steps[-1]
    assert step.stage == "export"
    assert step.settings == {"check_images": 64}
    assert step.figures["images"] == len(dataset.rows("val")) == 40
    assert step.figures["same_predictions"] == 1.0
    assert 0 < step.figures["max_difference"] < 1e-3
    assert step.figures["standalone_images"] == 40
    assert step.figures["standalone_difference"] < 1e-5
    assert exported.card.parent == start.digest == exported.digest


def test_the_check_takes_as_many_images_as_asked(exported, dataset):
    assert agreement(exported, dataset, 7)["images"] == 7


def test_without_val_other_images_are_the_check(exported, dataset):
    splits = dataset.table["split"].cast("string").to_pylist()
    kept = np.asarray([split != "val" for split in splits])
    assert agreement(exported, dataset.with_columns({"keep": kept}), 16)["images"] == 16


SCRIPT = """
import json, sys
import numpy as np, onnxruntime as ort
from PIL import Image

model, *paths = sys.argv[1:]
session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
meta = session.get_modelmeta().custom_metadata_map
contract, classes = json.loads(meta["acclimate.contract"]), json.loads(meta["acclimate.classes"])

def prepared(path):
    image = Image.open(path).convert("RGB")
    side = min(image.size) * contract["crop"]
    left, top = (image.width - side) / 2, (image.height - side) / 2
    size = (contract["image_size"],) * 2
    way = Image.Resampling[contract["interpolation"].upper()]
    pixels = np.asarray(image.resize(size, way, box=(left, top, left + side, top + side)))
    return ((pixels / 255 - contract["mean"]) / contract["std"]).transpose(2, 0, 1)

(logits,) = session.run(None, {"images": np.stack([prepared(p) for p in paths]).astype("float32")})
strangers = [m for m in sys.modules if m.split(".")[0] in ("acclimate", "torch", "timm")]
print(json.dumps({"said": [classes[i] for i in logits.argmax(1)], "strangers": strangers}))
"""


def test_plain_onnx_runtime_reads_the_file_and_says_the_same(folder, exported, dataset):
    rows = dataset.rows("val")
    paths = [dataset.path(row) for row in rows]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, folder / "model.onnx", *paths],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    pixels = np.stack([exported.contract.read(path) for path in paths])
    expected = run_torch(exported, "cpu")(pixels).argmax(1)
    assert found == {"said": [exported.classes[i] for i in expected], "strangers": []}
    labels = [dataset.classes[i] for i in dataset.labels[rows]]
    assert np.mean([a == b for a, b in zip(found["said"], labels, strict=True)]) > 0.6


def test_the_loaded_model_runs_its_graph_as_the_saved_one_did(folder, exported):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    again = Classifier.load(folder)
    assert (run_onnx(again, "cpu")(pixels) == run_onnx(exported, "cpu")(pixels)).all()


def test_exporting_leaves_the_network_as_it_was():
    model = classifier(Plain())
    model.network.to(memory_format=torch.channels_last)
    before, state = model.digest, copy.deepcopy(model.network.state_dict())
    to_onnx(model)
    assert replace(model).digest == before
    assert model.network.stem.weight.is_contiguous(memory_format=torch.channels_last)
    assert list(state) == list(model.network.state_dict())


def test_exporting_says_nothing_of_its_own(capfd):
    to_onnx(classifier(Plain()))
    assert capfd.readouterr() == ("", "")


def test_exporting_twice_gives_equal_bytes(monkeypatch):
    monkeypatch.setitem(EXPORTERS, "onnx", export_network)
    model = classifier(Plain())
    assert to_onnx(model) == to_onnx(model)


def test_class_names_of_any_script_are_kept_in_the_file():
    model = classifier(Plain())
    assert read_metadata(to_onnx(model)) == (CONTRACT, NAMES)


def test_writing_metadata_again_replaces_the_old(exported):
    other = replace(exported, classes=tuple("abcdefghij"))
    again = with_metadata(with_metadata(exported.graph, other), other)
    assert read_metadata(again) == (exported.contract, other.classes)
    assert len(onnx.load_from_string(again).metadata_props) == 3


def test_what_is_only_a_graph_is_left_as_it_is(exported, dataset, context):
    quantized = replace(exported, network=None, precision="int8")
    assert export(quantized, dataset, context=context) is quantized


def test_a_network_that_cannot_be_exported_is_refused_in_one_sentence():
    with pytest.raises(ModelFileError) as caught:
        to_onnx(classifier(Undecided()))
    said = str(caught.value)
    assert said.startswith("Undecided cannot be exported to ONNX (")
    assert "\n" not in said
    assert len(said) < 250


def test_a_graph_that_disagrees_with_its_network_is_refused(dataset, context):
    model = classifier(TwoFaced(), dataset.classes)
    with pytest.raises(ModelFileError) as caught:
        export(model, dataset, Export(check_images=20), context=context)
    assert str(caught.value) == (
        f"{model.name}: the exported graph agrees with PyTorch on only 0.0% of 20 images."
    )


@pytest.mark.parametrize("content", [b"", b"no graph at all", b"\x08\x07" * 50])
def test_a_file_that_is_no_onnx_is_refused(content):
    with pytest.raises(ModelFileError) as caught:
        read_metadata(content)
    assert str(caught.value) == "not a valid ONNX file."


def test_an_onnx_file_of_somebody_else_is_refused():
    with pytest.raises(ModelFileError, match="has no input contract and classes in its metadata"):
        read_metadata(export_network(Plain().eval(), 32, "logits"))
