"""Logits from pixels, whatever runs the network."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from acclimate.data.images.contract import InputContract
from acclimate.errors import ModelFileError
from acclimate.models.classifier import Card, Classifier
from acclimate.models.runtime import Normalizer, best_runtime, open_session, run_onnx, run_torch

CONTRACT = InputContract(32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bilinear", 0.9)


def classifier(network=None, graph=None):
    if network is None and graph is None:
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    return Classifier("module:mine", network, ("a", "b"), CONTRACT, Card("me", "MIT"), graph=graph)


numbers = st.floats(0.05, 1)
three = st.tuples(numbers, numbers, numbers)


@settings(max_examples=25, deadline=None)
@given(mean=three, std=three, seed=st.integers(0, 99), count=st.integers(1, 3))
def test_both_runtimes_are_fed_the_same_numbers(mean, std, seed, count):
    contract = InputContract(8, mean, std, "bicubic", 1.0)
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), np.uint8)
    ours = contract.normalize(pixels)
    theirs = Normalizer(contract, torch.device("cpu"))(torch.from_numpy(pixels))
    expected = (pixels / 255 - np.asarray(mean)) / np.asarray(std)
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous
    assert theirs.dtype == torch.float32
    assert theirs.shape == ours.shape == (count, 3, 8, 8)
    assert np.allclose(ours, expected.transpose(0, 3, 1, 2), atol=1e-4)
    assert np.allclose(theirs.numpy(), ours, atol=1e-4)


def test_pixels_reach_pytorch_with_channels_last_in_memory():
    pixels = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    made = Normalizer(replace(CONTRACT, image_size=8), torch.device("cpu"))(pixels)
    assert made.is_contiguous(memory_format=torch.channels_last)


def test_a_model_that_was_not_exported_says_so():
    with pytest.raises(ModelFileError) as caught:
        run_onnx(classifier(), "cpu")
    assert str(caught.value) == "mine was not exported to ONNX."


def test_a_model_without_a_network_says_so():
    with pytest.raises(ModelFileError, match="has no PyTorch network, only an ONNX graph"):
        run_torch(classifier(graph=b"graph"), "cpu")


@pytest.mark.parametrize("graph", [b"", b"no graph at all"])
def test_a_damaged_graph_is_refused(graph):
    with pytest.raises(ModelFileError) as caught:
        open_session(graph, "cpu")
    assert str(caught.value).startswith("the ONNX file cannot be run (")


def test_the_graph_is_the_best_runtime_on_a_cpu_and_the_network_where_there_is_none():
    network = classifier().network
    assert best_runtime(classifier(network, b"graph"), "cpu") == "onnx"
    assert best_runtime(classifier(network), "cpu") == "torch"
    assert best_runtime(classifier(graph=b"graph"), "cpu") == "onnx"


def test_the_network_is_the_best_runtime_on_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert best_runtime(classifier(classifier().network, b"graph"), "auto") == "torch"
    assert best_runtime(classifier(graph=b"graph"), "auto") == "onnx"


def test_a_network_left_in_training_mode_is_run_in_evaluation_mode():
    model = classifier(nn.Sequential(nn.Dropout(0.9), nn.Flatten(), nn.Linear(3072, 2)).train())
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    run = run_torch(model, "cpu")
    assert (run(pixels) == run(pixels)).all()
