"""From float32 to int8: a quarter of the size with the same predictions, or the reason why not."""

import logging
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from acclimate.compression.quantize import quantize
from acclimate.compression.settings import Quantize
from acclimate.compression.static_int8 import SCHEMES, quantize_with
from acclimate.errors import DataError
from acclimate.models.classifier import Classifier
from acclimate.models.onnx.export import export, from_onnx, read_metadata
from acclimate.models.runtime import run_onnx, run_torch
from kit import CONTRACT, Recorder


@pytest.fixture(scope="module")
def trained(trained, dataset):
    """A small network trained on the digits, exported. Never changed."""
    return export(trained, dataset)


@pytest.fixture(scope="module")
def quantized(trained, dataset, context):
    """Its int8 form. Never changed."""
    return quantize(trained, dataset, None, Quantize(max_accuracy_drop=20), context=context)


def pixels(dataset, contract, split="test"):
    return np.stack([contract.read(dataset.path(row)) for row in dataset.rows(split)])


def agreement(a, b):
    return float((a.argmax(1) == b.argmax(1)).mean())


@pytest.mark.slow
def test_a_real_network_shrinks_to_about_a_quarter_and_predicts_alike(tuned, dataset, context):
    small = quantize(tuned, dataset, None, Quantize(max_accuracy_drop=100), context=context)
    assert small.precision == "int8"
    assert 0.24 < small.card.steps[-1].figures["size_ratio"] < 0.32
    assert len(small.graph) < 0.32 * 4 * tuned.parameters
    images = pixels(dataset, tuned.contract)
    assert agreement(run_onnx(small, "cpu")(images), run_torch(tuned, "cpu")(images)) > 0.7


def test_int8_predicts_like_float32(quantized, trained, dataset):
    images = pixels(dataset, CONTRACT)
    ours, theirs = run_onnx(quantized, "cpu")(images), run_onnx(trained, "cpu")(images)
    assert agreement(ours, theirs) > 0.9
    assert not np.array_equal(ours, theirs)
    assert len(quantized.graph) < 0.7 * len(trained.graph)


def test_the_int8_file_alone_holds_classes_and_contract(quantized, trained, tmp_path):
    assert read_metadata(quantized.graph) == (CONTRACT, trained.classes)
    (tmp_path / "model.onnx").write_bytes(quantized.graph)
    alone = from_onnx(tmp_path / "model.onnx")
    assert (alone.classes, alone.contract) == (trained.classes, CONTRACT)


def test_plain_onnx_runtime_runs_the_int8_file(quantized, dataset):
    session = ort.InferenceSession(quantized.graph, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["images"]
    assert [o.name for o in session.get_outputs()] == ["logits"]
    for count in (1, 3):
        images = pixels(dataset, CONTRACT)[:count]
        (logits,) = session.run(None, {"images": CONTRACT.normalize(images)})
        assert logits.shape == (count, 10)
        assert np.allclose(logits, run_onnx(quantized, "cpu")(images), atol=1e-4)


def test_an_int8_model_is_saved_and_loaded(quantized, tmp_path):
    quantized.save(tmp_path / "small")
    back = Classifier.load(tmp_path / "small")
    assert back.digest == quantized.digest
    assert back.graph == quantized.graph
    assert back.precision == "int8"
    assert back.network is None
    assert sorted(p.name for p in (tmp_path / "small").iterdir()) == [
        "curve.csv",
        "model.json",
        "model.onnx",
        "preprocess.py",
        "used_images.safetensors",
    ]


def test_the_card_has_the_measurements(quantized, trained):
    step = quantized.card.steps[-1]
    assert step.stage == "quantize"
    assert step.settings["max_accuracy_drop"] == 20
    assert step.notes[-1].startswith("int8 (")
    assert step.notes[-1].endswith(" Kept.")
    assert {"val_accuracy_before", "val_accuracy", "size_ratio", "speedup"} <= set(step.figures)
    assert quantized.digest != trained.digest


def test_the_given_classifier_is_left_as_it_was(trained, quantized):
    assert trained.precision == "float32"
    assert trained.network is not None
    assert trained.graph != quantized.graph
    assert trained.card.steps[-1].stage == "export"


def test_float_is_kept_with_the_reasons_if_every_scheme_loses_too_much(trained, dataset, context):
    # Nearly all of each activation's range is clipped: no scheme can be accurate.
    settings = Quantize(max_accuracy_drop=0, percentile=0.95, calibration_images=8, recover=False)
    recorder = Recorder()
    kept = quantize(trained, dataset, None, settings, context=replace(context, progress=recorder))
    assert kept.precision == "float32"
    assert kept.digest == trained.digest
    assert read_metadata(kept.graph) == (CONTRACT, trained.classes)
    notes = kept.card.steps[-1].notes
    assert len(notes) == len(SCHEMES) == 3
    for note, scheme in zip(notes, SCHEMES, strict=True):
        assert note.startswith(f"int8 ({scheme.name}): ")
        assert "Not kept: the drop of " in note
        assert note.endswith(" points exceeds max_accuracy_drop (0).")
        assert f"quantize: {note}" in recorder.lines
    figures = kept.card.steps[-1].figures
    assert figures["val_accuracy"] < figures["val_accuracy_before"]


@pytest.fixture(scope="module")
def lossy(trained, dataset, policy, context, tmp_path_factory):
    """A model recovered from a bad int8 form, and the log lines."""
    # A fifth of each activation's range is clipped.
    settings = Quantize(max_accuracy_drop=5, percentile=0.2, epochs=8, learning_rate=3e-3)
    recorder = Recorder()
    here = replace(context, progress=recorder, workspace=tmp_path_factory.mktemp("lossy"))
    return quantize(trained, dataset, policy, settings, context=here), recorder.lines


def test_lost_accuracy_is_recovered_in_int8(lossy, trained, dataset):
    made, lines = lossy
    assert made.precision == "int8"
    step = made.card.steps[-1]
    refused, last = step.notes[: len(SCHEMES)], step.notes[-1]
    assert all("Not kept: the drop of " in note for note in refused)
    assert last.startswith("int8 (recovered): ")
    assert last.endswith(" Kept.")
    assert "quantize: recovering accuracy by quantization-aware training" in lines
    assert step.stage == "quantize"
    assert step.curve[0]["val_accuracy"] < step.figures["val_accuracy_before"] - 0.05
    assert step.figures["val_accuracy"] >= step.figures["val_accuracy_before"] - 0.05
    images = pixels(dataset, CONTRACT)
    assert agreement(run_onnx(made, "cpu")(images), run_onnx(trained, "cpu")(images)) > 0.8
    assert len(made.graph) < 0.7 * len(trained.graph)
    assert read_metadata(made.graph) == (CONTRACT, trained.classes)
    assert made.card.parent == trained.digest


def test_there_is_no_recovery_if_a_class_would_be_forgotten(trained, dataset, policy, context):
    settings = Quantize(max_accuracy_drop=0, percentile=0.95, calibration_images=8)
    eights = (dataset.labels == 8) & np.isin(np.arange(len(dataset)), dataset.rows("train"))
    without = dataset.with_columns({"keep": dataset.keep & ~eights})
    kept = quantize(trained, without, policy, settings, context=context)
    assert kept.precision == "float32"
    reason = "Not recovered: '8' has no training images, and the model would forget it."
    assert kept.card.steps[-1].notes[-1] == reason


def test_an_int8_model_comes_back_with_the_reason(quantized, dataset, context):
    recorder = Recorder()
    back = quantize(quantized, dataset, context=replace(context, progress=recorder))
    assert back.graph == quantized.graph
    assert back.digest == quantized.digest
    reason = "Not quantized: the model is already int8."
    assert back.card.steps[-1].notes == (reason,)
    assert recorder.lines == [f"quantize: {reason}"]


def float_weights(graph):
    """The shapes of the weight matrices that are still float."""
    return {
        tuple(tensor.dims)
        for tensor in onnx.load_from_string(graph).graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1
    }


def test_keep_head_float_keeps_the_head_in_float32(quantized, trained, dataset):
    rows = dataset.rows("train")[:8]
    graph = quantize_with(trained, dataset, rows, Quantize(keep_head_float=True), SCHEMES[0])
    assert float_weights(quantized.graph) == set()
    assert len(float_weights(graph)) == 1
    assert 10 in next(iter(float_weights(graph)))


@pytest.mark.parametrize("images", [1, 37, 40])
def test_percentile_works_with_any_number_of_images(images, trained, dataset):
    rows = dataset.rows("train")[:images]
    graph = quantize_with(trained, dataset, rows, Quantize(percentile=0.01), SCHEMES[0])
    assert len(graph) < 0.7 * len(trained.graph)


def test_nothing_is_printed_and_logging_is_left_alone(trained, dataset, capfd):
    level = logging.getLogger().level
    quantize_with(
        trained, dataset, dataset.rows("train")[:8], Quantize(percentile=0.01), SCHEMES[0]
    )
    assert logging.getLogger().level == level
    assert capfd.readouterr() == ("", "")


def test_a_model_of_other_classes_is_refused(trained, dataset, context):
    stranger = replace(trained, classes=(*"012345678", "ten"))
    with pytest.raises(DataError, match="data has classes the model does not know: '9'"):
        quantize(stranger, dataset, context=context)


def test_a_float_onnx_file_alone_can_be_quantized(trained, dataset, context, tmp_path):
    (tmp_path / "model.onnx").write_bytes(trained.graph)
    given = from_onnx(tmp_path / "model.onnx")
    small = quantize(given, dataset, None, Quantize(max_accuracy_drop=20), context=context)
    assert small.precision == "int8"
    assert len(small.graph) < 0.7 * len(given.graph)
