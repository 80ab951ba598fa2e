"""One suite over every way to write a network as a file."""

import numpy as np
import onnx
import pytest
import timm
import torch
from timm.models import VisionTransformer
from torch import nn

from acclimate.errors import ModelFileError
from acclimate.models.onnx.export import EXPORTERS
from acclimate.models.runtime import open_session
from acclimate.models.structure import backbone


def convolutions():
    """A network of the smallest size: exporting takes time for each layer."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 8, 3, groups=8),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip


def attention():
    return VisionTransformer(32, 8, embed_dim=32, depth=1, num_heads=2, num_classes=4)


NETWORKS = {
    "convolutions": convolutions,
    "attention": attention,
    "features": lambda: backbone(timm.create_model("test_resnet")),
}
ROWS = dict(EXPORTERS)
"""As they are: tests share exports of networks that differ in their weights alone."""
CASES = [(exporter, network) for exporter in EXPORTERS for network in NETWORKS]


@pytest.mark.parametrize(("exporter", "network"), CASES)
def test_the_file_computes_what_the_network_does_for_any_number_of_images(exporter, network):
    torch.manual_seed(0)
    module = NETWORKS[network]().eval()
    content = ROWS[exporter](module, 32, "answer")
    assert isinstance(content, bytes)
    infer = open_session(content, "cpu")
    for count in (1, 2, 5):
        images = np.random.default_rng(count).normal(size=(count, 3, 32, 32)).astype(np.float32)
        with torch.inference_mode():
            expected = module(torch.from_numpy(images)).numpy()
        assert np.allclose(infer(images), expected, atol=1e-3)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_output_is_named_as_asked(exporter):
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2)).eval()
    graph = onnx.load_from_string(ROWS[exporter](module, 8, "answer")).graph
    assert [value.name for value in graph.input] == ["images"]
    assert [value.name for value in graph.output] == ["answer"]


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_network_that_takes_no_such_image_is_refused_in_one_sentence(exporter):
    module = nn.Sequential(nn.Flatten(), nn.Linear(5, 2)).eval()
    with pytest.raises(ModelFileError) as caught:
        ROWS[exporter](module, 8, "answer")
    assert str(caught.value).startswith("Sequential cannot be exported to ONNX (")
    assert "\n" not in str(caught.value)


def test_every_exporter_is_tried():
    assert list(EXPORTERS) == ["onnx"]
    assert len(CASES) == 3
