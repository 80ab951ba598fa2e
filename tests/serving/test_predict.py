"""What a classifier says of images: one answer an image, in order, whatever the rest is."""

import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from acclimate.data.images.given import find_images
from acclimate.errors import DataError, ModelFileError
from acclimate.evaluation.evaluate import evaluate
from acclimate.evaluation.settings import Evaluate
from acclimate.evaluation.tta import averaged_over_views, safe_views, softmax
from acclimate.features.probe import probe
from acclimate.models.classifier import StepRecord
from acclimate.models.onnx.export import export, from_onnx
from acclimate.models.pretrained import resized, wrap
from acclimate.models.runtime import run_onnx
from acclimate.serving.predict import predict


@pytest.fixture(scope="module")
def model(dataset, context):
    """A small network with a head for the digits, and its ONNX graph."""
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", pretrained=False, num_classes=10)
    start = probe(resized(wrap(network), 32), dataset, context=context)
    return export(start, dataset, context=context)


@pytest.fixture(scope="module")
def images(digits):
    """More images than one batch holds."""
    found = find_images(digits / "test")
    assert len(found) > 64
    return found


@pytest.fixture(scope="module")
def answers(model, images, context):
    return list(predict(model, images, context=context))


def test_every_image_is_answered_in_order(answers, images, model):
    assert [answer.path for answer in answers] == images
    assert all(answer.error is None for answer in answers)
    assert all(answer.classes[0] in model.classes for answer in answers)
    hits = [answer.classes[0] == answer.path.parent.name for answer in answers]
    assert np.mean(hits) > 0.5


def test_predict_says_what_evaluate_counted(answers, model, dataset, context):
    only = Evaluate(bootstrap=100, latency=False, runtime="onnx")
    found = evaluate(model, dataset, only, context=context)
    said = {
        str(dataset.root / path): model.classes[top[0]]
        for path, domain, top in zip(
            *(found.table[c].to_pylist() for c in ("path", "domain", "top_classes")), strict=True
        )
        if domain == "home"
    }
    assert said == {str(answer.path): answer.classes[0] for answer in answers}


def test_torch_and_the_graph_say_the_same(answers, model, images, context):
    plain = list(predict(replace(model, graph=None), images, context=context))
    assert [a.classes for a in plain] == [a.classes for a in answers]
    for ours, theirs in zip(plain, answers, strict=True):
        assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-4)


def test_the_onnx_file_alone_says_the_same_in_plain_onnx_runtime(answers, model, tmp_path):
    """With nothing of ours: the file's own metadata, Pillow and ONNX Runtime."""
    (tmp_path / "model.onnx").write_bytes(model.graph)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    told = session.get_modelmeta().custom_metadata_map
    contract, classes = (json.loads(told[f"acclimate.{k}"]) for k in ("contract", "classes"))
    size, crop = contract["image_size"], contract["crop"]
    same = []
    for answer in answers:
        with Image.open(answer.path) as opened:
            image = opened.convert("RGB")
        side = min(image.size) * crop
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        kind = Image.Resampling[contract["interpolation"].upper()]
        pixels = np.asarray(image.resize((size, size), kind, box=box)) / 255
        inputs = ((pixels - contract["mean"]) / contract["std"]).transpose(2, 0, 1)[None]
        (logits,) = session.run(None, {"images": inputs.astype(np.float32)})
        same.append(classes[int(logits.argmax())] == answer.classes[0])
    assert all(same)


def test_a_classifier_from_one_file_says_the_same(answers, model, images, context, tmp_path):
    (tmp_path / "leaf.onnx").write_bytes(model.graph)
    alone = from_onnx(tmp_path / "leaf.onnx")
    assert (alone.classes, alone.contract, alone.network) == (model.classes, model.contract, None)
    assert list(predict(alone, images, context=context)) == answers


@settings(max_examples=5, deadline=None)
@given(st.randoms(use_true_random=False))
def test_an_answer_does_not_depend_on_the_images_beside_it(model, images, answers, context, random):
    some = random.sample(range(len(images)), 40)
    for index, answer in zip(
        some, predict(model, [images[i] for i in some], context=context), strict=True
    ):
        assert answer.classes == answers[index].classes
        assert answer.probabilities == pytest.approx(answers[index].probabilities, abs=1e-5)


@pytest.mark.parametrize("top", [1, 3, 10, 99])
def test_top_names_so_many_classes_the_likeliest_first(model, images, context, top):
    (answer,) = predict(model, images[:1], top=top, context=context)
    assert len(answer.classes) == len(answer.probabilities) == min(top, 10)
    assert len(set(answer.classes)) == len(answer.classes)
    assert list(answer.probabilities) == sorted(answer.probabilities, reverse=True)
    if top >= 10:
        assert sum(answer.probabilities) == pytest.approx(1, abs=1e-5)


def test_bad_files_are_answered_with_their_reason_and_the_rest_is_named(
    model, images, answers, context, tmp_path
):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "half.png").write_bytes(images[0].read_bytes()[:200])
    mixed = []
    for index, name in enumerate(("empty.png", "text.jpg", "gone.png", "half.png")):
        mixed += [tmp_path / name, images[index]]
    found = list(predict(model, [*mixed, tmp_path], context=context))
    assert [answer.error for answer in found] == [
        "file is empty (0 bytes).", None,
        "file is not an image.", None,
        "cannot be read (No such file or directory).", None,
        "image is truncated or broken.", None,
        "cannot be read (Is a directory).",
    ]  # fmt: skip
    assert [a.classes for a in found[1::2]] == [a.classes for a in answers[:4]]
    assert all(a.classes == () == a.probabilities for a in found[::2])


def test_bad_files_alone_are_answered_too(model, context, tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    found = list(predict(model, [tmp_path / "empty.png"] * 40, context=context))
    assert [answer.error for answer in found] == ["file is empty (0 bytes)."] * 40


def test_no_images_no_answers(model, context):
    assert list(predict(model, [], context=context)) == []


def test_answers_come_while_the_images_still_do(model, images, context):
    given = []

    def stream():
        for image in images:
            given.append(image)
            yield image

    answer = next(predict(model, stream(), context=context))
    assert answer.path == images[0]
    assert len(given) < len(images)


def test_images_are_found_below_a_folder_sorted_and_without_the_hidden(images, tmp_path):
    for name in (
        "b/2.PNG",
        "b/1.png",
        "a.jpg",
        ".hidden/3.png",
        "b/.4.png",
        "b/scan",
        "c/d/5.webp",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(images[0], tmp_path / name)
    (tmp_path / "b" / "notes.txt").write_text("milk, eggs")
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a.jpg", "b/1.png", "b/2.PNG", "b/scan", "c/d/5.webp"]


def test_a_file_is_taken_whatever_its_name(tmp_path):
    (tmp_path / "scan").write_bytes(b"")
    assert find_images(tmp_path / "scan") == [tmp_path / "scan"]


def test_where_there_is_nothing_it_says_so(tmp_path):
    with pytest.raises(DataError) as caught:
        find_images(tmp_path)
    assert str(caught.value) == f"{tmp_path}: the folder has no images."
    with pytest.raises(DataError) as caught:
        find_images(tmp_path / "gone")
    assert str(caught.value) == f"{tmp_path}/gone: no such file or folder."


def plain_graph():
    """A graph that somebody else exported: no contract, no classes."""
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3]) for name in "xy"
    ]
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:])
    return onnx.helper.make_model(graph).SerializeToString()


NONE = "not a valid ONNX file."


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", NONE),
        (b"no graph", NONE),
        (plain_graph(), "the ONNX file has no input contract and classes in its metadata."),
    ],
    ids=["empty", "text", "plain"],
)
def test_an_onnx_file_that_is_not_ours_is_refused_with_its_name(tmp_path, content, told):
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        from_onnx(tmp_path / "x.onnx")
    assert str(caught.value).startswith(f"{tmp_path}/x.onnx: {told}")


def test_views_are_averaged_when_asked_and_answers_stay_in_order(model, images, answers, context):
    policy = {"crop_area": 0.5, "horizontal_flip": True}
    taught = model.after(StepRecord("fine_tune", {"policy": policy}), graph=model.graph)
    averaged = list(predict(taught, images, tta=True, context=context))
    assert [answer.path for answer in averaged] == images
    assert averaged != answers
    views = averaged_over_views(run_onnx(model), safe_views(taught))
    first = softmax(views(np.stack([model.contract.read(images[0])])))[0]
    assert averaged[0].probabilities[0] == pytest.approx(float(first.max()), abs=1e-4)


def test_views_of_a_model_of_which_nothing_is_known_are_refused(model, images, context):
    with pytest.raises(ModelFileError, match="the views for test-time augmentation are unknown"):
        list(predict(model, images, tta=True, context=context))
