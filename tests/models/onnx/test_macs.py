"""The multiply-adds of a graph."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from acclimate.compression.settings import Quantize
from acclimate.compression.static_int8 import SCHEMES, quantize_with
from acclimate.models.onnx.export import EXPORTERS, to_onnx
from acclimate.models.onnx.macs import count_macs


class Small(nn.Module):
    """Two convolutions, one of them by groups, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.second = nn.Conv2d(8, 16, 3, padding=1, groups=4)
        self.head = nn.Linear(16, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(images)).mean((2, 3)))


def test_every_product_is_counted_once():
    graph = EXPORTERS["onnx"](Small().eval(), 32, "logits", 3)
    first, second, head = 8 * 16 * 16 * 27, 16 * 16 * 16 * 18, 16 * 5
    assert count_macs(graph) == first + second + head


@pytest.mark.parametrize("scheme", SCHEMES[:1])
def test_int8_does_as_many_as_float(scheme, trained, dataset):
    exported = replace(trained, graph=to_onnx(trained))
    small = quantize_with(exported, dataset, dataset.rows("train")[:8], Quantize(), scheme)
    assert count_macs(small) == count_macs(exported.graph) > 100_000
