"""Classifiers on disk: what is kept, what is refused, what is never run."""

import json
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from acclimate.data.images.contract import InputContract
from acclimate.errors import ModelFileError
from acclimate.files import digest_bytes, digest_json
from acclimate.models.class_statistics import ClassStatistics
from acclimate.models.classifier import Card, Classifier, StepRecord, is_model_folder
from acclimate.models.model_folder import FORMAT
from acclimate.models.onnx.export import to_onnx
from acclimate.models.pretrained import wrap
from acclimate.models.runtime import run_onnx, run_torch
from acclimate.models.structure import head

CONTRACT = InputContract(32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "lanczos", 0.9)
CLASSES = ("ash", "beech", "fir")
PIXELS = torch.randint(
    0, 256, (4, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
).numpy()
CARD = Card(
    "somewhere",
    "MIT",
    parent="0" * 32,
    dataset="1" * 32,
    steps=(
        StepRecord(
            "fine-tune",
            {"epochs": 3, "layers": [1, 2], "name": None},
            {"val_accuracy": 0.75},
            ("It was stopped early.",),
            ({"epoch": 0, "loss": None}, {"epoch": 1, "loss": 0.5}),
        ),
        StepRecord("probe"),
    ),
)


def timm_model(classes=CLASSES, name="test_efficientnet"):
    torch.manual_seed(0)
    model = wrap(timm.create_model(name, num_classes=len(classes)))
    return replace(model, classes=tuple(classes), contract=CONTRACT, card=CARD)


class Plain(nn.Module):
    """A network of the user's own."""

    def __init__(self, width=8):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=4)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.stem(x))).mean((2, 3)))


def own_model():
    torch.manual_seed(0)
    return replace(wrap(Plain(), CONTRACT), classes=CLASSES)


@pytest.fixture(scope="module")
def exported():
    """A network of the user's own with its graph. Never changed."""
    model = own_model()
    return replace(model, graph=to_onnx(model))


@pytest.fixture
def folder(tmp_path):
    """A saved model to spoil."""
    timm_model().save(tmp_path / "model")
    return tmp_path / "model"


def refusal(folder, **options):
    with pytest.raises(ModelFileError) as caught:
        Classifier.load(folder, **options)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(folder, change):
    """What a stranger does: the digest of `model.json` in itself is made to fit again."""
    path = folder / "model.json"
    record = json.loads(path.read_text())
    change(record)
    record.pop("record")
    path.write_text(json.dumps({**record, "record": digest_json(record)}))


def redigest(folder):
    """The same for the digests of the files in `model.json`."""
    names = [path.name for path in folder.iterdir() if path.name != "model.json"]
    digests = {name: digest_bytes((folder / name).read_bytes()) for name in names}
    edit(folder, lambda record: record.update(files=digests))


def edit_weights(folder, change):
    path = folder / "model.safetensors"
    weights = safetensors.torch.load(path.read_bytes())
    change(weights)
    path.write_bytes(safetensors.torch.save(weights))
    redigest(folder)


# Round trips


def test_what_is_saved_is_what_is_loaded(tmp_path):
    model = timm_model()
    model.save(tmp_path / "model")
    again = Classifier.load(tmp_path / "model")
    for field in ("architecture", "classes", "contract", "card", "precision", "graph", "digest"):
        assert getattr(again, field) == getattr(model, field), field
    assert not again.network.training
    assert (run_torch(again, "cpu")(PIXELS) == run_torch(model, "cpu")(PIXELS)).all()
    assert is_model_folder(tmp_path / "model")
    assert not is_model_folder(tmp_path)


@settings(max_examples=8, deadline=None)
@given(classes=st.lists(st.text(max_size=12), min_size=1, max_size=6, unique=True))
def test_class_names_of_any_script_come_back_in_their_order(tmp_path_factory, classes):
    place = tmp_path_factory.mktemp("names") / "model"
    timm_model(classes).save(place)
    assert Classifier.load(place).classes == tuple(classes)


def test_a_model_saved_twice_gives_equal_files(tmp_path):
    timm_model().save(tmp_path / "a")
    Classifier.load(tmp_path / "a").save(tmp_path / "b")
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_saving_over_an_older_model_leaves_only_the_new_one(tmp_path, exported):
    exported.save(tmp_path / "model")
    timm_model().save(tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "curve.csv",
        "model.json",
        "model.safetensors",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_weights_that_a_network_ties_are_kept(tmp_path):
    class Tied(Plain):
        def __init__(self):
            super().__init__()
            self.again = self.head

    model = wrap(Tied(), CONTRACT)
    model.save(tmp_path / "model")
    fresh = Tied()
    Classifier.load(tmp_path / "model", network=fresh)
    assert torch.equal(fresh.head.weight, model.network.head.weight)
    assert fresh.again is fresh.head


# The digest


def test_the_digest_stands_for_what_the_logits_depend_on():
    model = timm_model()
    other = timm_model()
    with torch.no_grad():
        other.network.classifier.bias[0] += 1e-6
    changes = [
        replace(model, classes=CLASSES[::-1]),
        replace(model, contract=replace(CONTRACT, image_size=48)),
        replace(model, contract=replace(CONTRACT, crop=0.8)),
        other,
    ]
    assert len({model.digest, *(c.digest for c in changes)}) == len(changes) + 1


def test_the_digest_does_not_depend_on_card_mode_or_layout():
    model = timm_model()
    moved = timm_model()
    moved.network.to(memory_format=torch.channels_last).train()
    assert moved.digest == model.digest
    assert replace(model, card=Card("elsewhere", "unknown")).digest == model.digest


def test_a_stage_writes_its_step_and_its_parent_into_the_card(exported, dataset):
    step = StepRecord("distill", {"epochs": 1}, {"val_accuracy": 0.5})
    made = exported.after(step, trained_on=dataset, network=Plain())
    assert made.card.steps == (*exported.card.steps, step)
    assert (made.card.parent, made.card.dataset) == (exported.digest, dataset.digest)
    assert made.graph is None, "the graph of the old network must not stay"
    assert exported.after(step).card.dataset == exported.card.dataset
    assert exported.after(step).graph == exported.graph


# Damage


DAMAGED = "the weights do not match the digest in model.json: a file was changed or damaged."


@pytest.mark.parametrize("place", [-1, -1000, 0.5])
def test_one_changed_byte_in_the_weights_is_refused(folder, place):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[place if isinstance(place, int) else int(place * len(content))] ^= 1
    path.write_bytes(bytes(content))
    assert refusal(folder) == (
        f"{folder}: model.safetensors does not match its digest in model.json: a file was changed "
        "or damaged. Run the stage again, or copy the model again from its source."
    )
    redigest(folder)
    assert refusal(folder) == (
        f"{folder}: {DAMAGED} Run the stage again, or copy the model again from its source."
    )


def test_one_changed_weight_in_the_graph_is_refused(tmp_path, exported):
    exported.save(tmp_path / "model")
    path = tmp_path / "model" / "model.onnx"
    content, bias = path.read_bytes(), exported.network.head.bias.detach().numpy().tobytes()
    at = content.index(bias)
    changed = bytearray(content)
    changed[at + 3] ^= 0x80
    path.write_bytes(bytes(changed))
    assert "a file was changed or damaged." in refusal(tmp_path / "model")
    assert "a file was changed or damaged." in refusal(tmp_path / "model", network=Plain())


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.update(classes=r["classes"][::-1]),
        lambda r: r.update(classes=["oak", *r["classes"][1:]]),
        lambda r: r["contract"].update(mean=[0.5, 0.5, 0.5]),
        lambda r: r["contract"].update(image_size=64),
        lambda r: r.update(precision="int8"),
        lambda r: r.update(digest="0" * 32),
    ],
    ids=["order of classes", "a class", "mean", "image size", "precision", "digest"],
)
def test_a_changed_model_json_does_not_fit_the_weights(folder, change):
    edit(folder, change)
    assert DAMAGED in refusal(folder)


@pytest.mark.parametrize("part", [0, 7, 0.5, 0.999])
def test_truncated_weights_are_refused(folder, part):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: part if isinstance(part, int) else int(part * len(whole))])
    redigest(folder)
    assert refusal(folder).startswith(f"{path}: not a valid weights file (")


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_pickle_in_the_place_of_the_weights_is_refused_and_not_run(folder, tmp_path):
    content = pickle.dumps({"classifier.bias": Bomb(tmp_path / "mark")})
    (folder / "model.safetensors").write_bytes(content)
    redigest(folder)
    assert "not a valid weights file" in refusal(folder)
    assert not (tmp_path / "mark").exists()
    pickle.loads(content)
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"classifier.bias": torch.zeros(7)},
        {"bn1.running_mean": torch.zeros(7)},
        {"conv_stem.weight": torch.zeros(999, 3, 3, 3)},
        {"conv_stem.weight": torch.zeros(())},
        {"more": torch.zeros(3)},
        {"bn1.weight": None},
    ],
    ids=["bias", "statistics", "wider", "scalar", "one too much", "one too few"],
)
def test_weights_that_do_not_fit_the_named_architecture_are_refused(folder, change):
    def spoil(weights):
        weights.update(change)
        for name in [name for name, tensor in weights.items() if tensor is None]:
            del weights[name]

    edit_weights(folder, spoil)
    refusal(folder)


# model.json


def without(key):
    return lambda record: record.pop(key)


def with_(**values):
    return lambda record: record.update(values)


MALFORMED = {
    **{f"no {k}": without(k) for k in ("format", "architecture", "classes", "contract")},
    **{f"no {k}": without(k) for k in ("precision", "counts", "digest", "card")},
    "format is text": with_(format="1"),
    "classes are a number": with_(classes=3),
    "classes are null": with_(classes=None),
    "counts are a list": with_(counts=[1]),
    "counts hold text": with_(counts={"conv": "many"}),
    "contract is empty": with_(contract={}),
    "contract is a list": with_(contract=[32]),
    "contract is endless": lambda r: r["contract"].update(image_size=float("inf")),
    "contract is huge": lambda r: r["contract"].update(image_size=10**9),
    "mean is short": lambda r: r["contract"].update(mean=[0.5]),
    "card is text": with_(card="mine"),
    "card has no source": lambda r: r["card"].pop("source"),
    "steps are a number": lambda r: r["card"].update(steps=7),
    "architecture is unknown": with_(architecture="timm:nothing_like_it"),
    "architecture is another": with_(architecture="timm:test_vit"),
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_model_json_is_refused_in_one_sentence(folder, change):
    edit(folder, change)
    refusal(folder)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '"model"', "[" * 100_000, b"\xff\xfe"],
    ids=["empty", "cut", "list", "null", "text", "deep", "binary"],
)
def test_a_model_json_that_is_no_record_is_refused(folder, text):
    path = folder / "model.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    refusal(folder)


def test_a_newer_format_asks_for_an_upgrade(folder):
    edit(folder, with_(format=FORMAT + 1))
    assert refusal(folder) == (
        f"{folder}/model.json: model was written by a newer acclimate. Upgrade acclimate."
    )
    edit(folder, with_(format=FORMAT - 1))
    assert refusal(folder) == (
        f"{folder}/model.json: model was written by an older acclimate. "
        "Make the model again with this one."
    )


def test_an_absurd_number_of_classes_is_refused(folder):
    edit(folder, with_(classes=[str(i) for i in range(100_001)]))
    assert refusal(folder) == f"{folder}: model has 100,001 classes."
    edit(folder, with_(classes=[]))
    assert refusal(folder) == f"{folder}: model has 0 classes."


def test_a_model_json_of_a_hundred_megabytes_is_not_read(folder):
    with (folder / "model.json").open("r+b") as stream:
        stream.truncate(100_000_000)
    assert refusal(folder) == f"{folder / 'model.json'}: file is larger than 67,108,864 bytes."


def test_a_folder_without_model_json_is_no_model(tmp_path):
    assert refusal(tmp_path) == (
        f"{tmp_path}: not a model folder: it has no model.json. Give a folder that a stage wrote."
    )


@pytest.mark.parametrize("name", ["model.json", "curve.csv"])
def test_a_changed_card_or_curve_is_refused(folder, name):
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"licence": "MIT"', b'"licence": "GPL"') + b" ")
    if name == "curve.csv":
        assert "curve.csv does not match its digest in model.json" in refusal(folder)
    else:
        assert "model.json does not match its own digest" in refusal(folder)


def test_a_part_that_the_model_was_not_saved_with_is_refused(folder):
    (folder / "statistics.safetensors").write_bytes(b"")
    assert "statistics.safetensors does not match its digest in model.json" in refusal(folder)


def test_a_missing_part_is_refused(folder):
    (folder / "curve.csv").unlink()
    assert "curve.csv does not match its digest in model.json" in refusal(folder)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors", "curve.csv"])
def test_links_and_pipes_in_a_model_folder_are_refused_at_once(folder, name, tmp_path):
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    assert refusal(folder) == f"{folder / name}: is a link, not a regular file."
    (folder / name).unlink()
    os.mkfifo(folder / name)
    where = f"{folder}: not a model folder" if name == "model.json" else f"{folder / name}: is a pi"
    assert refusal(folder).startswith(where)


def test_a_graph_of_other_classes_than_model_json_is_refused(tmp_path, exported):
    place = tmp_path / "model"
    replace(exported, network=None, architecture="module:leaf").save(place)
    assert Classifier.load(place).classes == exported.classes
    strange = replace(exported, network=None, classes=tuple("xyz")[: len(exported.classes)])
    strange.save(place)
    assert refusal(place).startswith(
        f"{place / 'model.onnx'}: the classes in its metadata are not those in model.json."
    )


# Modules of the user's own


def test_a_module_of_the_users_own_is_loaded_as_its_graph(tmp_path, exported):
    exported.save(tmp_path / "model")
    again = Classifier.load(tmp_path / "model")
    assert again.network is None
    assert again.parameters == 0
    assert again.classes == CLASSES
    assert (run_onnx(again, "cpu")(PIXELS) == run_onnx(exported, "cpu")(PIXELS)).all()
    with pytest.raises(ModelFileError) as caught:
        again.module()
    assert str(caught.value) == (
        f"{again.name} (float32) has no PyTorch network, only an ONNX graph. "
        "Load it from Python with Classifier.load(folder, network=...)."
    )


def test_a_module_of_the_users_own_takes_its_weights_back(tmp_path):
    model = own_model()
    model.save(tmp_path / "model")
    fresh = Plain()
    again = Classifier.load(tmp_path / "model", network=fresh)
    assert again.network is fresh
    assert again.digest == model.digest
    assert (run_torch(again, "cpu")(PIXELS) == run_torch(model, "cpu")(PIXELS)).all()


def test_a_module_of_other_widths_is_refused(tmp_path):
    own_model().save(tmp_path / "model")
    said = refusal(tmp_path / "model", network=Plain(width=16))
    assert said.startswith(f"{tmp_path / 'model'}: weights do not fit the network (size mismatch")


def test_a_module_of_the_users_own_without_its_code_or_a_graph_cannot_be_loaded(tmp_path):
    own_model().save(tmp_path / "model")
    assert refusal(tmp_path / "model") == (
        f"{tmp_path / 'model'}: the model folder has neither weights of a known architecture "
        "nor model.onnx. Load a module of your own with its network: acclimate.load(folder, "
        "network=...)."
    )


def test_a_quantized_model_is_its_graph_alone(tmp_path, exported):
    small = replace(exported, precision="int8", network=None)
    small.save(tmp_path / "model")
    names = sorted(p.name for p in (tmp_path / "model").iterdir())
    assert names == ["model.json", "model.onnx", "preprocess.py"]
    again = Classifier.load(tmp_path / "model")
    assert (again.network, again.graph, again.digest) == (None, exported.graph, small.digest)


def test_a_quantized_timm_model_says_where_its_network_is(exported):
    small = replace(timm_model(), precision="int8", network=None, graph=exported.graph)
    with pytest.raises(ModelFileError) as caught:
        small.module()
    assert str(caught.value) == (
        "test_efficientnet (int8) has no PyTorch network, only an ONNX graph. "
        "Use the float model that it was made of: the one given to quantize, or the folder of the "
        "step before quantize in the run's folder."
    )


def test_a_module_is_never_returned_with_weights_that_are_not_the_models(tmp_path, exported):
    replace(exported, precision="int8", network=None).save(tmp_path / "model")
    try:
        again = Classifier.load(tmp_path / "model", network=Plain())
    except ModelFileError:
        return
    assert again.network is None


def counted(model):
    size = head(model.network).in_features
    held = np.ones((2, size), np.float32)
    blank = ClassStatistics.of(np.ones(2), np.zeros((2, size)), np.eye(size))
    return replace(model, statistics=blank.with_held_out(held, np.array([0, 1])))


def test_class_statistics_come_back_and_change_no_digest(tmp_path):
    model = counted(timm_model(["a", "b"]))
    model.save(tmp_path / "model")
    back = Classifier.load(tmp_path / "model")
    assert back.digest == model.digest == timm_model(["a", "b"]).digest
    assert back.statistics.as_bytes() == model.statistics.as_bytes()


def test_class_statistics_do_not_outlive_their_network():
    model = counted(timm_model(["a", "b"]))
    step = StepRecord("other")
    assert model.after(step, graph=b"").statistics is model.statistics
    assert model.after(step, network=model.network).statistics is None


@pytest.mark.parametrize("lost", [False, True])
def test_class_statistics_that_were_changed_or_lost_are_refused(tmp_path, lost):
    counted(timm_model(["a", "b"])).save(tmp_path / "model")
    path = tmp_path / "model" / "statistics.safetensors"
    if lost:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(
        ModelFileError, match=r"statistics\.safetensors does not match its digest in model"
    ):
        Classifier.load(tmp_path / "model")
