"""`acclimate predict`: models from folders, files and the store; images from anywhere."""

import csv
import io
import json
import os
import shutil
import sys

import pytest

from acclimate.registry.signing import KeySigner


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def model(workshop):
    return workshop.made / "model"


def test_a_folder_is_named_image_by_image(acclimate, workshop, model):
    done = acclimate("predict", model, workshop.photos / "test")
    assert done.code == 0
    found = rows(done.out)
    assert [row["path"] for row in found] == sorted(
        str(path) for path in (workshop.photos / "test").rglob("*.png")
    )
    hits = [row["label"] == row["path"].split("/")[-2] for row in found]
    assert sum(hits) > 0.6 * len(hits)
    assert all(0 < float(row["probability"]) <= 1 for row in found)
    assert done.err == f"predict: reading {model}\n"


def test_a_broken_file_is_listed_and_the_rest_is_named(acclimate, workshop, model):
    done = acclimate("predict", model, workshop.photos / "train" / "nought")
    assert done.code == 0
    found = {row["path"].split("/")[-1]: row for row in rows(done.out)}
    assert len(found) == 21
    empty = found["empty.jpg"]
    assert (empty["label"], empty["error"]) == ("", "file is empty (0 bytes).")
    assert found["cut off.jpg"]["error"] == "image is truncated or broken."
    assert found["twice.png"]["label"] in ("nought", "one & only", "Sieben é")
    assert done.lines[1:] == ["2 files could not be read; see the error column."]


def test_top_names_the_likeliest_classes_first(acclimate, workshop, model):
    image = next(workshop.photos.glob("test/nought/*.png"))
    found = rows(acclimate("predict", model, image, "--top", "9").out)
    chances = [float(row["probability"]) for row in found]
    assert {row["label"] for row in found} == {"nought", "one & only", "Sieben é"}
    assert chances == sorted(chances, reverse=True)
    assert sum(chances) == pytest.approx(1, abs=1e-3)


def test_as_json_each_image_is_a_line(acclimate, workshop, model):
    place = workshop.photos / "train" / "nought"
    done = acclimate("predict", model, place, "--json")
    records = [json.loads(line) for line in done.out.splitlines()]
    assert all(list(r) == ["path", "classes", "probabilities", "error"] for r in records)
    (empty,) = [r for r in records if r["path"].endswith("empty.jpg")]
    assert (empty["classes"], empty["error"]) == ([], "file is empty (0 bytes).")


def test_a_csv_file_holds_what_is_printed_otherwise(acclimate, workshop, model, tmp_path):
    place = workshop.photos / "test"
    done = acclimate("predict", model, place, "-o", "p.csv")
    assert done.out == "predictions  p.csv\n"
    assert (tmp_path / "p.csv").read_text() == acclimate("predict", model, place).out


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
@pytest.mark.parametrize("flags", [[], ["--json"], ["-o", "out.csv"]])
def test_a_name_that_is_no_text_is_shown_and_loses_nothing(
    acclimate, workshop, model, tmp_path, flags
):
    image = next(workshop.photos.glob("train/*/*.png"))
    shutil.copy(image, os.fsencode(tmp_path) + b"/caf\xe9.png")
    shutil.copy(image, tmp_path / "plain.png")
    done = acclimate("predict", model, ".", *flags, cwd=tmp_path)
    told = (tmp_path / "out.csv").read_text() if "-o" in flags else done.out
    assert "caf\\xe9.png" in told.replace("\\\\", "\\")
    assert "plain.png" in told


@pytest.mark.parametrize("name", ["list.csv", "one & only/photo.png"])
def test_predictions_never_take_the_place_of_a_file_of_the_users(
    acclimate, workshop, model, tmp_path, name
):
    shutil.copytree(workshop.photos / "val", tmp_path / "photos")
    mine = tmp_path / "photos" / name
    mine.write_text("path,label\nmine,years of work\n")
    done = acclimate("predict", model, "photos/nought", "-o", mine)
    assert mine.read_text() == "path,label\nmine,years of work\n"
    assert done.code == 2


def test_every_form_of_the_model_says_the_same(acclimate, workshop, tmp_path):
    place = workshop.photos / "test"
    folder = acclimate("predict", workshop.made / "model", place).out
    shutil.copy(workshop.made / "model" / "model.onnx", tmp_path / "leaf.onnx")
    assert acclimate("predict", "leaf.onnx", place).out == folder
    shutil.copytree(workshop.folder / "acclimate-store", tmp_path / "acclimate-store")
    assert acclimate("models", "promote", "photos/1").code == 0
    for reference in ("photos@champion", "photos/1", "photos"):
        assert acclimate("predict", f"models:{reference}", place).out == folder


def test_a_model_is_taken_from_another_store_under_another_key(acclimate, workshop, tmp_path):
    shutil.copytree(workshop.folder / "acclimate-store", tmp_path / "elsewhere")
    place = workshop.photos / "test"
    given = ("predict", "models:photos@latest", place, "--store", "elsewhere")
    assert acclimate(*given).out == acclimate("predict", workshop.made / "model", place).out
    (tmp_path / "own").mkdir()
    KeySigner(tmp_path / "other.pem").sign(tmp_path / "own")
    done = acclimate(*given, "--key", "other.pem")
    assert (done.code, done.out) == (3, "")
    assert "line 1 of the store's log is not signed by a trusted key." in done.err


def test_a_changed_model_of_the_store_is_refused_with_exit_code_3(acclimate, workshop, tmp_path):
    shutil.copytree(workshop.folder / "acclimate-store", tmp_path / "acclimate-store")
    (graph,) = tmp_path.glob("acclimate-store/models/photos/*/model.onnx")
    graph.write_bytes(graph.read_bytes() + b"\0")
    given = ("predict", "models:photos@latest", workshop.photos / "test")
    done = acclimate(*given)
    assert (done.code, done.out) == (3, "")
    assert "the signature does not match" in done.err
    assert json.loads(acclimate(*given, "--json").lines[-1])["code"] == "not-trusted"


def test_a_changed_model_folder_is_refused_with_a_sentence(acclimate, workshop, tmp_path):
    shutil.copytree(workshop.made / "model", tmp_path / "m")
    graph = tmp_path / "m" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\7")
    done = acclimate("predict", "m", workshop.photos / "test")
    assert done.code == 2
    assert done.lines[1:] == [
        "error: m: model.onnx does not match its digest in model.json: a file was changed or "
        "damaged. Run the stage again, or copy the model again from its source."
    ]


def test_images_are_files_and_folders_in_the_order_given(acclimate, workshop, model):
    one = next(workshop.photos.glob("val/one & only/*.png"))
    found = rows(acclimate("predict", model, one, workshop.photos / "val" / "nought").out)
    assert found[0]["path"] == str(one)
    assert len(found) == 5


def test_views_are_averaged_on_request(acclimate, workshop, model):
    plain = rows(acclimate("predict", model, workshop.photos / "test").out)
    done = acclimate("predict", model, workshop.photos / "test", "--tta")
    assert done.code == 0, done.err
    averaged = rows(done.out)
    assert [row["path"] for row in averaged] == [row["path"] for row in plain]
    assert [row["probability"] for row in averaged] != [row["probability"] for row in plain]


def test_views_of_a_bare_graph_are_refused_in_one_sentence(acclimate, workshop, model):
    done = acclimate("predict", model / "model.onnx", workshop.photos / "test", "--tta")
    assert done.code == 2
    assert done.lines[1:] == [
        "error: model: the views for test-time augmentation are unknown, because the model's card "
        "has no augmentation policy. Turn test-time augmentation off, or fine-tune the model first."
    ]


def test_accuracy_with_labels_is_of_images_the_model_was_not_made_with(acclimate, workshop, model):
    photos = workshop.photos
    done = acclimate("predict", model, photos, "--labels", photos)
    assert done.code == 0
    found = rows(done.out)
    known = [row for row in found if not row["error"]]
    assert all(row["true_label"] == row["path"].split("/")[-2] for row in known)
    test = [row for row in known if "/test/" in row["path"]]
    right = sum(row["label"] == row["true_label"] for row in test)
    (figure,) = [line for line in done.lines if line.startswith("accuracy ")]
    assert figure.startswith(f"accuracy {right / len(test):.3f} [")
    assert figure.endswith(f"on {len(test)} labelled images")
    (used,) = [line for line in done.lines if "trained on" in line]
    assert used.startswith(f"of {len(known)} images, ")
    assert used.endswith("they are left out.")


def test_labels_of_training_images_only_give_no_accuracy(acclimate, workshop, model):
    train = workshop.photos / "train"
    done = acclimate("predict", model, train / "nought", "--labels", train)
    assert done.code == 0
    assert "no accuracy: the model was made with these images" in done.lines[-1]
    done = acclimate(
        "predict", model, train / "nought", "--labels", train, "--include-training", "--json"
    )
    last = json.loads(done.out.splitlines()[-1])
    assert last["images"]["counted"] == last["images"]["trained_on"] > 10
    assert last["accuracy"]["value"] > 0.5
    assert last["images"]["include_training"]


def test_a_list_elsewhere_does_not_hide_that_images_were_trained_on(
    acclimate, workshop, model, tmp_path
):
    images = sorted(workshop.photos.glob("train/nought/*[0-9].png"))
    (tmp_path / "truth.csv").write_text("\n".join(["path,label", *(f"{i},nought" for i in images)]))
    done = acclimate("predict", model, *images, "--labels", "truth.csv")
    assert "no accuracy: the model was made with these images" in done.lines[-1]


def test_a_list_gives_the_true_labels_of_some_images(acclimate, workshop, model, tmp_path):
    test = workshop.photos / "test"
    images = sorted(test.glob("nought/*.png"))
    lines = [f"{path},nought" for path in images[1:]]
    (tmp_path / "truth.csv").write_text("\n".join(["path,label", *lines]))
    done = acclimate("predict", model, *images, "--labels", "truth.csv", "-o", "p.csv")
    assert done.lines[-2] == "1 image without a label, not counted."
    assert done.lines[-1].endswith(f"on {len(images) - 1} labelled images")
    first, *others = rows((tmp_path / "p.csv").read_text())
    assert first["true_label"] == ""
    assert {row["true_label"] for row in others} == {"nought"}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("unlabelled", "the images here have no labels."),
        ("other/0.png,nought", "none of the 1 image is among the labelled ones."),
        ("other/0.png,zebra", "data has classes the model does not know: 'zebra'"),
    ],
)
def test_labels_that_do_not_fit_are_a_mistake(
    acclimate, workshop, model, tmp_path, labels, message
):
    image = next(workshop.photos.glob("test/nought/*.png"))
    (tmp_path / "other").mkdir()
    shutil.copy(image, tmp_path / "other" / "0.png")
    place = "other" if labels == "unlabelled" else "truth.csv"
    (tmp_path / "truth.csv").write_text(f"path,label\n{labels}\n")
    done = acclimate("predict", model, image, "--labels", place)
    assert done.code == 2
    assert message in done.lines[-1]
