"""Test-time augmentation: which views may be asked for, and that their answers are averaged."""

from dataclasses import replace

import numpy as np
import pytest

from acclimate.augmentation.policy import POLICIES
from acclimate.data.images.fast_resize import flip_horizontal
from acclimate.errors import ModelFileError
from acclimate.evaluation.evaluate import evaluate
from acclimate.evaluation.settings import Evaluate
from acclimate.evaluation.tta import averaged_over_views, safe_views, shifted, softmax
from acclimate.models.classifier import StepRecord

SHIFTS = {"down-right", "down-left", "up-right", "up-left"}
QUICK = Evaluate(bootstrap=100, latency=False)


def taught(classifier, **policy):
    record = replace(POLICIES["none"], **policy).as_record()
    return classifier.after(StepRecord("fine_tune", {"policy": record}))


def test_only_views_that_were_learnt_from_are_asked_for(start):
    assert safe_views(taught(start)) == {}
    assert set(safe_views(taught(start, horizontal_flip=True))) == {"mirrored"}
    assert set(safe_views(taught(start, crop_area=0.5))) == SHIFTS
    both = safe_views(taught(start, crop_area=0.5, horizontal_flip=True))
    assert set(both) == SHIFTS | {"mirrored"} | {f"mirrored {name}" for name in SHIFTS}


def test_the_latest_training_counts(start):
    assert safe_views(taught(taught(start, horizontal_flip=True))) == {}


def test_a_model_of_which_nothing_is_known_is_refused(start):
    with pytest.raises(ModelFileError) as caught:
        safe_views(start)
    assert str(caught.value) == (
        f"{start.name}: the views for test-time augmentation are unknown, because the model's card "
        "has no augmentation policy. Turn test-time augmentation off, or fine-tune the model first."
    )


def test_a_damaged_card_allows_no_view(start):
    broken = start.after(StepRecord("x", {"policy": {"crop_area": "half", "horizontal_flip": 1}}))
    assert safe_views(broken) == {}


def test_a_mirror_image_and_a_shift_are_what_they_say():
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    assert np.array_equal(flip_horizontal(flip_horizontal(images)), images)
    assert np.array_equal(flip_horizontal(images)[:, :, 0], images[:, :, -1])
    moved = shifted(1, -1)(images)
    assert np.array_equal(moved[:, 2:, :-2], images[:, :-2, 2:])
    assert np.array_equal(moved[:, 0], moved[:, 2])  # what comes free repeats the edge
    assert moved.flags["C_CONTIGUOUS"]


def test_probabilities_are_averaged():
    images = np.zeros((1, 32, 32, 3), np.uint8)
    images[:, :, 16:] = 255

    def run(pixels):
        left = pixels[:, 0, 0, 0] > 0
        return np.where(left[:, None], [[0.0, 2.0]], [[1.0, 0.0]]).astype(np.float32)

    both = softmax(averaged_over_views(run, {"mirrored": flip_horizontal})(images))
    expected = (softmax(np.float32([[0.0, 2.0]])) + softmax(np.float32([[1.0, 0.0]]))) / 2
    assert np.allclose(both, expected, atol=1e-6)
    assert np.allclose(
        softmax(averaged_over_views(run, {})(images)), softmax(run(images)), atol=1e-6
    )


def test_an_evaluation_says_that_views_were_averaged(start, dataset, context):
    model = taught(start, crop_area=0.5, horizontal_flip=True)
    plain = evaluate(model, dataset, QUICK, context=context)
    averaged = evaluate(model, dataset, QUICK.model_copy(update={"tta": True}), context=context)
    assert averaged.settings["tta"] is True
    assert averaged.settings["views"] == ["as it is", *safe_views(model)]
    assert len(averaged.settings["views"]) == 10
    assert averaged.digest != plain.digest
    assert averaged.table["loss"].to_pylist() != plain.table["loss"].to_pylist()


def test_a_model_without_safe_views_is_measured_as_it_is(start, dataset, context):
    plain = evaluate(start, dataset, QUICK, context=context)
    for model in (start, taught(start)):  # of which nothing is known; which learnt from no view
        asked = evaluate(model, dataset, QUICK.model_copy(update={"tta": True}), context=context)
        assert asked.settings["views"] == ["as it is"]
        losses = (found.table["loss"].to_numpy() for found in (asked, plain))
        assert np.allclose(*losses, atol=1e-4)
