"""`acclimate models`: which versions there are, which is in service, and whether they are whole."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch

from acclimate.models.classifier import Classifier
from acclimate.models.onnx.int8_check import FIGURE
from acclimate.models.pretrained import wrap
from acclimate.registry.settings import Register
from acclimate.registry.signing import KeySigner
from acclimate.registry.versions import Registry


@pytest.fixture(scope="module")
def kept(workshop, shell, tmp_path_factory):
    """A store with three versions of one model and one of another, and its key."""
    folder = tmp_path_factory.mktemp("kept")
    # Making the tables takes seconds: the run's own store, with its model, is gone on with.
    shutil.copytree(workshop.folder / "acclimate-store", folder / "store")
    # One log has one signer, unless it trusts others.
    config = Path(shell.env["XDG_CONFIG_HOME"]) / "acclimate"
    for path in config.glob("signing-key*"):
        shutil.copy(path, folder / path.name.replace("signing-key", "key"))
    registry = Registry(Register(store=folder / "store", key=folder / "key.pem"))
    for seed, name in enumerate(("leaf", "leaf", "leaf", "bark")):
        torch.manual_seed(seed)
        network = timm.create_model("test_efficientnet", pretrained=False, num_classes=3)
        facts = {"accuracy": f"0.9{seed}00", "precision": "float32", "bytes": "424920"}
        registry.publish(name, wrap(network), facts=facts)
    return folder


@pytest.fixture
def models(acclimate, kept, tmp_path):
    """Runs `acclimate models` on a copy of the store: a store may be moved."""
    shutil.copytree(kept / "store", tmp_path / "store")

    def models(command, *args):
        place = ("--store", "store", "--key", kept / "key.pem")
        return acclimate("models", command, *args, *place)

    return models


def tamper(store, name="leaf", number=1):
    """Changes one byte of a version's weights."""
    weights = store / "models" / name / str(number) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def test_list_shows_every_version_of_every_model(models, tmp_path):
    done = models("list")
    assert done.code == 0
    assert str(tmp_path / "store") in done.out
    rows = [[c.strip() for c in line.split("│")[1:-1]] for line in done.out.splitlines()]
    rows = [row[:6] for row in rows if row]
    accuracy = models("show", "photos", "--json").json["accuracy"]
    assert rows == [
        ["bark", "1", "", "0.9300", "float32", "0.4 MB"],
        ["leaf", "1", "", "0.9000", "float32", "0.4 MB"],
        ["leaf", "2", "", "0.9100", "float32", "0.4 MB"],
        ["leaf", "3", "", "0.9200", "float32", "0.4 MB"],
        ["photos", "1", "", accuracy, "int8", "0.2 MB"],
    ]


def test_list_and_show_answer_programs_in_json(models, tmp_path):
    records = models("list", "--json").json
    assert [(r["name"], r["number"]) for r in records] == [
        ("bark", 1), ("leaf", 1), ("leaf", 2), ("leaf", 3), ("photos", 1),
    ]  # fmt: skip
    shown = models("show", "leaf/2", "--json").json
    assert shown == records[2]
    assert shown["aliases"] == []
    assert shown["folder"].startswith(str(tmp_path / "store" / "models" / "leaf"))


def test_show_takes_a_name_a_number_or_an_alias(models):
    models("promote", "leaf/2")
    for reference, number in (("leaf", 3), ("leaf/1", 1), ("leaf@champion", 2), ("leaf@latest", 3)):
        assert models("show", reference, "--json").json["number"] == number
    assert "\naccuracy       0.9100\n" in models("show", "leaf@champion").out


def test_promote_and_rollback_move_the_champion(models):
    def champions():
        return [r["number"] for r in models("list", "--json").json if r["aliases"] == ["champion"]]

    assert models("promote", "leaf/1").out == "leaf/1: champion\n"
    assert models("promote", "leaf/3").out == "leaf/3: champion\n"
    assert models("promote", "leaf/3").out == "leaf/3: champion\n"
    assert champions() == [3]
    assert models("rollback", "leaf").out == "leaf/1: champion again\n"
    assert champions() == [1]
    done = models("rollback", "leaf")
    assert done.code == 2
    assert done.err.endswith("store: leaf has no previous champion.\n")
    assert champions() == [1]


def test_verify_says_that_every_file_is_as_it_was_signed(models):
    done = models("verify", "leaf/1")
    assert done.out == "leaf/1: the signature matches all files\n"
    assert done.code == 0


def test_verify_computes_int8_on_this_processor(models, kept, workshop, tmp_path):
    made = Classifier.load(workshop.made / "model")
    steps = [
        replace(step, figures=step.figures | {FIGURE: step.figures[FIGURE] + 0.5})
        if FIGURE in step.figures
        else step
        for step in made.card.steps
    ]
    elsewhere = replace(made, card=replace(made.card, steps=tuple(steps)))
    registry = Registry(Register(store=tmp_path / "store", key=kept / "key.pem"))
    for name, one in (("small", made), ("clipped", elsewhere)):
        registry.publish(name, one, facts={"precision": "int8"})
    assert models("verify", "small/1").out == (
        "small/1: the signature matches all files, and this processor computes int8 as where it "
        "was measured\n"
    )
    done = models("verify", "clipped")
    assert done.code == 2
    assert "this processor computes the int8 model differently" in done.err


@pytest.mark.parametrize("command", ["verify", "promote"])
def test_a_changed_version_is_refused_with_exit_code_3(models, tmp_path, command):
    tamper(tmp_path / "store")
    done = models(command, "leaf/1")
    assert done.code == 3
    assert done.out == ""
    assert "the signature does not match" in done.err
    assert done.err.endswith(
        "A file was changed, added or removed after signing, or another key signed it.\n"
    )
    assert "Traceback" not in done.err
    record = json.loads(models(command, "leaf/1", "--json").err)
    assert record["code"] == "not-trusted"
    assert record["where"].startswith(str(tmp_path / "store" / "models" / "leaf"))
    assert models(command, "leaf/2").code == 0


def test_rollback_does_not_go_back_to_a_changed_version(models, tmp_path):
    models("promote", "leaf/1")
    models("promote", "leaf/2")
    tamper(tmp_path / "store")
    assert models("rollback", "leaf").code == 3
    assert models("show", "leaf@champion", "--json").json["number"] == 2


def test_another_key_verifies_nothing(models, acclimate, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "file").write_text("mine")
    KeySigner(tmp_path / "other.pem").sign(tmp_path / "own")
    done = acclimate("models", "verify", "leaf/1", "--store", "store", "--key", "other.pem")
    assert done.code == 3
    assert "line 1 of the store's log is not signed by a trusted key." in done.err


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("leav", "no model 'leav' in the store. Did you mean 'leaf'?"),
        ("leaf/9", "leaf has no version '9', only 1, 2, 3, latest."),
        ("leaf@champion", "leaf has no version 'champion', only 1, 2, 3, latest."),
        (
            "../leaf",
            "'..' is not a valid model name. Use letters, digits, dots, dashes and underscores, "
            "64 at most.",
        ),
    ],
)
def test_a_wrong_reference_is_answered_with_what_there_is(models, reference, told):
    done = models("show", reference)
    assert done.code == 2
    assert done.err.endswith(f"{told}\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    "args", [["models", "list", "--store", "typo"], ["predict", "models:leaf@champion", "."]]
)
def test_looking_into_a_place_that_is_no_store_makes_none(acclimate, tmp_path, args):
    (tmp_path / "photo.png").write_bytes(b"")
    done = acclimate(*args)
    assert done.code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_log_tells_what_happened_and_delete_and_gc_write_to_it(models, tmp_path):
    models("promote", "leaf/1")
    assert models("delete", "leaf/1").code == 2
    assert models("delete", "leaf/2").out == "leaf/2: deleted\n"
    assert not (tmp_path / "store" / "models" / "leaf" / "2").exists()
    assert models("show", "leaf/2").code == 2
    assert models("gc", "--keep", "0", "--dry-run").out == (
        "bark/1: would be removed\nleaf/3: would be removed\nphotos/1: would be removed\n"
    )
    assert models("gc", "--keep", "1").out == "nothing to remove\n"
    assert models("gc", "--keep", "0").out.count(": removed\n") == 3
    done = [(e["action"], e["number"]) for e in models("log", "leaf", "--json").json]
    assert done == [("register", 1), ("register", 2), ("register", 3), ("promote", 1),
                    ("delete", 2), ("gc", 3)]  # fmt: skip
    assert "promote" in models("log").out
    assert models("verify", "leaf@champion").code == 0


def test_diff_tells_figures_and_structure_apart(models):
    found = models("diff", "leaf/1", "leaf/2", "--json").json
    assert found["figures"] == {"accuracy": ["0.9000", "0.9100"]}
    assert found["structure"] == {}
    assert found["data"] is None
    shown = models("diff", "leaf/1", "photos/1")
    assert shown.code == 0
    assert "timm:test_efficientnet" in shown.out


def test_a_rotated_key_leaves_old_versions_trusted(models, acclimate, kept, tmp_path):
    for path in kept.glob("key*.pem"):
        shutil.copy(path, tmp_path)
    place = ("--store", "store", "--key", "key.pem")
    done = acclimate("models", "rotate-key", "--key", "key.pem")
    assert done.out == "new public key: key.pub.pem; the old one is in key.trusted\n"
    assert acclimate("models", "verify", "leaf/1", *place).code == 0
    assert acclimate("models", "promote", "leaf/1", *place).code == 0
    shutil.rmtree(tmp_path / "key.trusted")
    assert acclimate("models", "list", *place).code == 3


def test_allow_unsigned_says_what_it_could_not_verify(models, tmp_path):
    tamper_card = tmp_path / "store" / "models" / "leaf" / "1" / "extra"
    tamper_card.write_text("more")
    assert models("diff", "leaf/1", "leaf/2").code == 3
    done = models("diff", "leaf/1", "leaf/2", "--allow-unsigned")
    assert done.code == 0
    assert "NOT VERIFIED, used all the same (--allow-unsigned)" in done.err


def test_what_a_run_registered_is_the_model_it_left(workshop, shell):
    shown = shell("models", "show", "photos@latest", "--json", cwd=workshop.folder).json
    made = json.loads((workshop.made / "model" / "model.json").read_text())
    assert shown["digest"] == made["digest"]
    assert (shown["number"], shown["precision"]) == (1, "int8")
    figures = json.loads(
        (workshop.step("evaluate-final") / "evaluation" / "evaluation.json").read_text()
    )
    home = figures["metrics"]["home"]["accuracy"]
    assert shown["accuracy"] == f"{home['value']:.4f}"
    assert shown["accuracy_low"] == f"{home['low']:.4f}"
    assert shown["bytes"] == str(figures["size_bytes"])
    (kept,) = (workshop.folder / "acclimate-store" / "models" / "photos").iterdir()
    assert {path.name for path in kept.iterdir()} == {
        "curve.csv", "images.parquet", "lineage.json", "model.json", "model.onnx", "preprocess.py",
        "recipe.json", "signature.sigstore.json", "used_images.safetensors", "version.json",
    }  # fmt: skip
    lineage = json.loads((kept / "lineage.json").read_text())
    assert [record["stage"] for record in lineage] == [
        "clean", "inspect", "probe", "augment", "fine-tune", "prune", "quantize",
        "evaluate", "evaluate", "evaluate", "compare", "compare",
    ]  # fmt: skip
    assert json.loads((kept / "recipe.json").read_text())["name"] == "photos"
