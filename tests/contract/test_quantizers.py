"""What every quantizer keeps, whichever it is, in each way to write 8-bit numbers."""

import typing
from dataclasses import replace

import numpy as np
import onnx
import pytest

from acclimate.compression.quantize import QUANTIZERS
from acclimate.compression.settings import Quantize, QuantizerName
from acclimate.models.onnx.export import read_metadata, to_onnx, with_metadata
from acclimate.models.runtime import open_session
from kit import CONTRACT

every = pytest.mark.parametrize("name", QUANTIZERS)


@pytest.fixture(scope="module")
def exported(trained):
    """A small network trained on the digits, with its graph. Never changed."""
    return replace(trained, graph=to_onnx(trained))


@pytest.fixture(scope="module")
def make(exported, dataset):
    """Quantizer to all that it offers, name to graph, made once."""
    made = {}

    def go(name):
        if name not in made:
            rows = dataset.rows("train")[::3]
            offered = list(QUANTIZERS[name](exported, dataset, rows, Quantize(method=name)))
            made[name] = {one.name: one.graph for one in offered}
            assert len(made[name]) == len(offered)
        return made[name]

    return go


def inputs(dataset):
    rows = dataset.rows("test")
    return CONTRACT.normalize(np.stack([CONTRACT.read(dataset.path(row)) for row in rows]))


def test_the_suite_covers_every_quantizer(make):
    assert set(QUANTIZERS) == set(typing.get_args(QuantizerName))
    assert {name: len(make(name)) for name in QUANTIZERS} == {"static": 3}


@every
def test_predictions_agree_with_float(name, make, exported, dataset):
    wanted = open_session(exported.graph, "cpu")(inputs(dataset))
    for graph in make(name).values():
        found = open_session(graph, "cpu")(inputs(dataset))
        assert found.shape == wanted.shape
        assert float((found.argmax(1) == wanted.argmax(1)).mean()) > 0.85


@every
def test_weights_become_integers_and_the_file_smaller(name, make, exported):
    for graph in make(name).values():
        assert len(graph) < 0.7 * len(exported.graph)
        tensors = onnx.load_from_string(graph).graph.initializer
        matrices = [t for t in tensors if len(t.dims) > 1]
        assert {t.data_type for t in matrices} == {onnx.TensorProto.INT8}
        assert len(matrices) > 10


@every
def test_a_batch_may_hold_any_number_of_images(name, make, dataset):
    for graph in make(name).values():
        infer = open_session(graph, "cpu")
        some = inputs(dataset)[:3]
        together = infer(some)
        assert together.shape == (3, 10)
        assert np.allclose(infer(some[:1]), together[:1], atol=1e-4)


@every
def test_classes_and_contract_can_be_written_into_it(name, make, exported):
    for made in make(name).values():
        graph = with_metadata(made, exported)
        assert read_metadata(graph) == (CONTRACT, exported.classes)
        onnx.checker.check_model(onnx.load_from_string(graph))


@every
def test_it_repeats(name, make, exported, dataset):
    rows = dataset.rows("train")[::3]
    again = next(iter(QUANTIZERS[name](exported, dataset, rows, Quantize(method=name))))
    assert again.graph == make(name)[again.name]
