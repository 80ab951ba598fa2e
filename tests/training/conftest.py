"""What the tests of training share."""

from dataclasses import replace

import pytest
import timm
import torch

from acclimate.data.contract import InputContract
from acclimate.models.pretrained import wrap

CONTRACT = InputContract(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", 1.0)


@pytest.fixture(scope="module")
def blank(dataset):
    """A small network that has the digits' classes and knows nothing of them. Never changed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("test_efficientnet", num_classes=10)
    return replace(wrap(network, CONTRACT), classes=dataset.classes)
