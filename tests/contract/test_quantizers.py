"""What every quantizer keeps, whichever it is, in each way to write 8-bit numbers."""

import typing
from dataclasses import replace

import numpy as np
import onnx
import pytest

from acclimate.compression.quantize import QUANTIZERS, SCHEMES
from acclimate.compression.settings import Quantize, QuantizerName
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.onnx.export import read_metadata, to_onnx, with_metadata
from acclimate.models.runtime import open_session
from kit import CONTRACT, tiny_classifier

every = pytest.mark.parametrize("name", QUANTIZERS)
in_each = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)


@pytest.fixture(scope="module")
def exported(dataset, policy, context):
    """A small network that learnt the digits, with its graph. Never changed."""
    start = tiny_classifier(dataset.classes)
    settings = FineTune(epochs=4, batch_size=18, learning_rate=1e-2)
    model = fine_tune(start, dataset, policy, settings, context=context)
    return replace(model, graph=to_onnx(model))


@pytest.fixture(scope="module")
def make(exported, dataset):
    """(quantizer, scheme) to a graph, made once."""
    made = {}

    def go(name, scheme):
        if (name, scheme.name) not in made:
            rows = dataset.rows("train")[::3]
            made[name, scheme.name] = QUANTIZERS[name](
                exported, dataset, rows, Quantize(method=name), scheme
            )
        return made[name, scheme.name]

    return go


def inputs(dataset):
    rows = dataset.rows("test")
    return CONTRACT.normalize(np.stack([CONTRACT.read(dataset.path(row)) for row in rows]))


def test_the_suite_covers_every_quantizer():
    assert set(QUANTIZERS) == set(typing.get_args(QuantizerName))
    assert len(QUANTIZERS) == 1
    assert len(SCHEMES) == len({scheme.name for scheme in SCHEMES}) == 3


@every
@in_each
def test_predictions_agree_with_float(name, scheme, make, exported, dataset):
    wanted, found = (
        open_session(g, "cpu")(inputs(dataset)) for g in (exported.graph, make(name, scheme))
    )
    assert found.shape == wanted.shape
    assert float((found.argmax(1) == wanted.argmax(1)).mean()) > 0.85


@every
@in_each
def test_weights_become_integers_and_the_file_smaller(name, scheme, make, exported):
    graph = make(name, scheme)
    assert len(graph) < 0.7 * len(exported.graph)
    tensors = onnx.load_from_string(graph).graph.initializer
    matrices = [t for t in tensors if len(t.dims) > 1]
    assert {t.data_type for t in matrices} == {onnx.TensorProto.INT8}
    assert len(matrices) > 10


@every
@in_each
def test_any_number_of_images_can_be_asked(name, scheme, make, dataset):
    infer = open_session(make(name, scheme), "cpu")
    some = inputs(dataset)[:3]
    together = infer(some)
    assert together.shape == (3, 10)
    assert np.allclose(infer(some[:1]), together[:1], atol=1e-4)


@every
@in_each
def test_classes_and_contract_can_be_written_into_it(name, scheme, make, exported):
    graph = with_metadata(make(name, scheme), exported)
    assert read_metadata(graph) == (CONTRACT, exported.classes)
    onnx.checker.check_model(onnx.load_from_string(graph))


@every
def test_it_repeats(name, make, exported, dataset):
    rows = dataset.rows("train")[::3]
    again = QUANTIZERS[name](exported, dataset, rows, Quantize(method=name), SCHEMES[0])
    assert again == make(name, SCHEMES[0])
