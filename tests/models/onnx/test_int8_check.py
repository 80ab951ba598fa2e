"""Int8 models that another processor computes differently."""

from dataclasses import replace

import numpy as np
import pytest

from acclimate.compression.quantize import quantize
from acclimate.compression.settings import Quantize
from acclimate.errors import ModelFileError
from acclimate.evaluation.evaluate import evaluate
from acclimate.evaluation.settings import Evaluate
from acclimate.models.onnx import int8_check
from acclimate.models.onnx.int8_check import (
    FIGURE,
    check_int8,
    int8_difference,
    recorded_difference,
    sample_images,
)
from acclimate.serving.predict import predict
from kit import CONTRACT, Recorder

CLIPPED = 0.25


@pytest.fixture(scope="module")
def small(trained, dataset, context):
    """An int8 model that was made on this processor. Never changed."""
    return quantize(trained, dataset, None, Quantize(max_accuracy_drop=50), context=context)


@pytest.fixture
def elsewhere(monkeypatch):
    """A processor that clips sums."""
    create = int8_check.create_session

    class Clipping:
        def __init__(self, graph, device, *, exact):
            self.session, self.exact = create(graph, device, exact=exact), exact

    def runner(clipping):
        run = int8_check_runner(clipping.session)
        return lambda images: run(images) if clipping.exact else run(images) * (1 - CLIPPED)

    int8_check_runner = int8_check.session_runner
    monkeypatch.setattr(int8_check, "create_session", Clipping)
    monkeypatch.setattr(int8_check, "session_runner", runner)


def test_the_difference_is_recorded_and_the_same_processor_gives_it_again(small):
    recorded = recorded_difference(small)
    assert recorded == pytest.approx(int8_difference(small))
    assert recorded < 2
    check_int8(small)


def test_the_images_are_the_same_everywhere():
    images = sample_images(CONTRACT)
    assert (images.shape, images.dtype) == ((16, 32, 32, 3), np.uint8)
    assert np.array_equal(images, sample_images(CONTRACT))
    assert int(images.astype(np.int64).sum()) == 6602728
    assert sample_images(replace(CONTRACT, mean=(0.5,), std=(0.5,))).shape == (16, 32, 32, 1)


def test_predict_refuses_a_model_that_is_computed_differently_here(small, dataset, elsewhere):
    with pytest.raises(ModelFileError, match="computes the int8 model differently") as caught:
        list(predict(small, [dataset.path(0)]))
    assert "--portable" in caught.value.hint


def test_evaluate_says_it_and_measures(small, dataset, context, elsewhere):
    recorder = Recorder()
    settings = Evaluate(latency=False, bootstrap=100)
    here = replace(context, progress=recorder)
    found = evaluate(small, dataset, settings, context=here)
    assert 0 <= found.metrics["home"]["accuracy"].value <= 1
    assert any("computes the int8 model differently" in line for line in recorder.lines)


def test_a_model_without_a_record_and_a_float_model_are_not_checked(small, trained, elsewhere):
    steps = tuple(
        replace(step, figures={k: v for k, v in step.figures.items() if k != FIGURE})
        for step in small.card.steps
    )
    check_int8(replace(small, card=replace(small.card, steps=steps)))
    check_int8(trained)
