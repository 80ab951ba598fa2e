"""Which processor does the work."""

import pytest
import torch
from torch import nn

from acclimate.errors import ModelFileError
from acclimate.models.device import choose_device, on_cpu, on_device


def test_the_processor_is_chosen_by_what_there_is(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")


def test_the_processor_can_be_named():
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "", "xpu", "hpu", "vulkan", "privateuseone"])
def test_a_device_that_is_not_here_is_refused_in_one_sentence(name):
    with pytest.raises(ModelFileError) as caught:
        choose_device(name)
    assert str(caught.value) == (
        f"--device: device {name!r} is not available. "
        "Use auto, cpu or cuda; `acclimate doctor` lists the available devices."
    )


def test_a_network_goes_to_its_device_with_channels_last_and_comes_back_plain():
    network = nn.Sequential(nn.Conv2d(3, 8, 3))
    there = on_device(network.train(), torch.device("cpu"))
    assert there is network
    assert there.training
    assert there[0].weight.is_contiguous(memory_format=torch.channels_last)
    back = on_cpu(there)
    assert back is network
    assert not back.training
    assert back[0].weight.is_contiguous()
