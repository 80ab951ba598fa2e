"""Networks of one channel: images reach them as grey, everywhere in the same way."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from onnx import helper
from torch import nn

from acclimate.augmentation.policy import choose_policy
from acclimate.compression.prune import structured
from acclimate.compression.settings import Prune
from acclimate.data.images.contract import InputContract
from acclimate.distillation.teachers import Teachers
from acclimate.errors import ModelFileError
from acclimate.features.probe import probe
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.classifier import Classifier
from acclimate.models.onnx.adapt_ends import adapt_ends
from acclimate.models.onnx.export import export
from acclimate.models.pretrained import pretrained, resized, wrap
from acclimate.models.runtime import Normalizer
from acclimate.models.settings import Export, Model, OnnxFile
from acclimate.training.engine.step import LossInputs
from kit import CONTRACT, same_weights, tiny_classifier, tiny_network

GREY = InputContract(32, (0.5,), (0.25,), "bilinear", 1.0)


@pytest.fixture(scope="module")
def start(dataset, context):
    """A network of one channel with a head fitted on the digits."""
    return probe(wrap(tiny_network(in_chans=1), GREY), dataset, context=context)


def test_a_network_of_timm_brings_its_contract_of_one_channel():
    contract = wrap(tiny_network(in_chans=1)).contract
    assert (contract.mean, contract.std) == (pytest.approx((0.449,)), pytest.approx((0.226,)))
    assert wrap(tiny_network()).contract.channels == 3


def test_weights_of_one_channel_are_recognized(tmp_path):
    network = tiny_network(in_chans=1)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "grey.safetensors")
    found = pretrained(Model(name="timm:test_efficientnet", weights=tmp_path / "grey.safetensors"))
    assert found.contract.channels == 1
    assert same_weights(found, network)


def test_both_ways_to_normalize_give_the_same_numbers():
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    found = Normalizer(GREY, torch.device("cpu"))(torch.from_numpy(images)).numpy()
    assert found.shape == (3, 1, 32, 32)
    assert np.allclose(found, GREY.normalize(images), atol=1e-5)


def test_a_user_module_of_one_channel_is_wrapped():
    network = nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 8), nn.ReLU(), nn.Linear(8, 4))
    assert wrap(network, GREY).contract.channels == 1
    with pytest.raises(ModelFileError, match=r"float32 \(2, 3, S, S\)"):
        wrap(network, CONTRACT)


def test_it_is_saved_loaded_and_exported(start, dataset, context, tmp_path):
    exported = export(start, dataset, Export(check_images=8), context=context)
    figures = exported.card.steps[-1].figures
    assert figures["same_predictions"] == 1.0
    assert figures["standalone_difference"] < 1e-5
    exported.save(tmp_path / "grey")
    back = Classifier.load(tmp_path / "grey")
    assert back.digest == start.digest
    assert back.contract == GREY
    assert 'image.convert("L")' in (tmp_path / "grey" / "preprocess.py").read_text()


def test_it_is_trained_resized_and_pruned(start, dataset, context):
    settings = FineTune(epochs=1, batch_size=64, learning_rate=1e-3, trainable="all")
    tuned = fine_tune(start, dataset, choose_policy(), settings, context=context)
    assert tuned.contract == GREY
    assert resized(tuned, 48).contract == replace(GREY, image_size=48)
    small = replace(tuned, network=structured(tuned, dataset, Prune(ratio=0.25), context))
    assert small.parameters < tuned.parameters


@pytest.mark.parametrize("student", [GREY, CONTRACT])
@pytest.mark.parametrize("teacher", [GREY, CONTRACT])
def test_teacher_and_student_may_differ_in_channels(student, teacher):
    channels = teacher.channels
    model = tiny_classifier("ab", contract=teacher, in_chans=channels)
    images = np.repeat(np.random.default_rng(0).integers(0, 256, (4, 32, 32, 1), np.uint8), 3, 3)
    inputs = torch.from_numpy(student.normalize(images))
    found = Teachers([model], model.classes, student, device="cpu")(
        LossInputs(inputs, torch.zeros(4, dtype=torch.int64), np.arange(4))
    )
    with torch.inference_mode():
        expected = model.module()(torch.from_numpy(teacher.normalize(images)))
    assert torch.allclose(found.logits, expected.log_softmax(1), atol=1e-3) or torch.allclose(
        found.logits, expected, atol=1e-3
    )


def foreign(kind, shape):
    """A graph of another program: the mean of each half of a grey image."""
    ends = [
        helper.make_tensor_value_info("input", kind, shape),
        helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, ["b", 2]),
    ]
    nodes = [
        helper.make_node("Cast", ["input"], ["numbers"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Flatten", ["numbers"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["output"]),
    ]
    weights = np.random.default_rng(0).normal(size=(32 * 32, 2)).astype(np.float32)
    known = [onnx.numpy_helper.from_array(weights, "weights")]
    body = helper.make_graph(nodes, "theirs", ends[:1], ends[1:], known)
    opset = helper.make_opsetid("", 18)
    return helper.make_model(body, opset_imports=[opset], ir_version=10).SerializeToString()


@pytest.mark.parametrize("shape", [["b", 1, 32, 32], ["b", 32, 32, 1]])
@pytest.mark.parametrize("kind", [onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8])
def test_an_onnx_file_of_one_channel_is_adapted(kind, shape):
    contract = adapt_ends(foreign(kind, shape), OnnxFile(classes=("a", "b"))).contract
    assert contract.channels == 1
    if kind == onnx.TensorProto.FLOAT:
        assert contract.mean == pytest.approx((0.449,))
        own = OnnxFile(classes=("a", "b"), mean=(0.2,), std=(0.3,))
        assert adapt_ends(foreign(kind, shape), own).contract.mean == (0.2,)


def test_statistics_of_another_number_of_channels_are_refused():
    described = OnnxFile(classes=("a", "b"), mean=(0.1, 0.2, 0.3))
    with pytest.raises(ModelFileError) as caught:
        adapt_ends(foreign(onnx.TensorProto.FLOAT, ["b", 1, 32, 32]), described)
    assert str(caught.value) == (
        "the ONNX file takes images of 1 channel, so mean must be one number."
    )
