"""Predictions of one image or many, by a runtime that is opened once."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from acclimate.models import predictions, runtime
from acclimate.models.onnx.export import to_onnx
from kit import tiny_classifier


@pytest.fixture
def model():
    """A small classifier with its graph."""
    plain = tiny_classifier(("a", "b", "c"))
    return replace(plain, graph=to_onnx(plain))


@pytest.fixture
def photo():
    return Image.new("RGB", (40, 30), "red")


def test_a_session_is_opened_once_for_each_classifier_and_device(model, photo, monkeypatch):
    opened = []
    create = runtime.create_session
    monkeypatch.setattr(
        runtime, "create_session", lambda *a, **k: opened.append(a) or create(*a, **k)
    )
    for _ in range(3):
        model.predict(photo, device="cpu")
    assert len(opened) == 1
    replace(model).predict(photo, device="cpu")
    assert len(opened) == 2


def test_an_int8_model_is_checked_once(model, photo, monkeypatch):
    checked = []
    monkeypatch.setattr(predictions, "check_int8", checked.append)
    for _ in range(3):
        model.predict(photo)
    assert checked == [model]


def test_a_classifier_that_predicted_can_be_copied_and_pickled(model, photo):
    (said,) = model.predict(photo)
    for other in (copy.deepcopy(model), copy.copy(model), pickle.loads(pickle.dumps(model))):
        assert not other.opened
        assert other.predict(photo)[0].label == said.label


def test_an_image_of_a_batch_is_answered_as_alone(model):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 20, 20, 3), dtype=np.uint8)
    together = model.predict(pixels, top=3)
    assert len(together) == 40
    for one, answer in zip(pixels[::13], together[::13], strict=True):
        (alone,) = model.predict(one, top=3)
        assert alone.classes == answer.classes
        assert alone.probabilities == pytest.approx(answer.probabilities, abs=1e-5)


def test_a_broken_image_stops_no_other(model, photo):
    good, bad = model.predict([photo, b"no image"])
    assert good.label in model.classes
    assert (bad.label, bad.path, bad.error) == (None, None, "file is not an image.")
