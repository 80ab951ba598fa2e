"""Networks of torchvision by name, so that a saved one is rebuilt without the user's code."""

import inspect
from collections.abc import Mapping

import torch
import torchvision
from torch import nn

from acclimate.errors import ModelFileError, near_names
from acclimate.models.structure import head_names

PREFIX = "torchvision:"
_LEFT_OUT = ("googlenet", "inception_v3")
"""They have auxiliary heads and a transform of the input that no weights tell of."""


def torchvision_name(network: nn.Module) -> str | None:
    """The name of a network of torchvision whose layers are as torchvision builds them.

    Args:
        network: Any network, with its linear head.

    Returns:
        "torchvision:resnet18"; None for other networks, and for one in which a layer was replaced.
    """
    if not type(network).__module__.startswith("torchvision.models."):
        return None
    layer = network.get_submodule(head_names(network)[0])
    assert isinstance(layer, nn.Linear)
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    for name in _names():
        builder = torchvision.models.get_model_builder(name)
        if inspect.signature(builder).return_annotation is not type(network):
            continue
        with torch.device("meta"):
            same = builder(weights=None, num_classes=layer.out_features)
        # The layers' own descriptions tell of those without weights, such as a pooling left out.
        known = {n: tensor.shape for n, tensor in same.state_dict().items()}
        if known == shapes and str(same) == str(network):
            return f"{PREFIX}{name}"
    return None


def create_torchvision(architecture: str, num_classes: int) -> nn.Module:
    """Creates a network of torchvision with random weights; nothing is downloaded.

    Args:
        architecture: "torchvision:NAME".
        num_classes: Outputs of the head.

    Returns:
        The network in evaluation mode.

    Raises:
        ModelFileError: torchvision has no such classifier.
    """
    name = architecture.removeprefix(PREFIX)
    if name not in _names():
        raise ModelFileError(
            f"torchvision has no classifier {name!r}. {near_names(name, _names())}"
        )
    options: Mapping[str, object] = {"weights": None, "num_classes": num_classes}
    network: nn.Module = torchvision.models.get_model(name, **options)
    return network.eval()


def _names() -> list[str]:
    names = torchvision.models.list_models(module=torchvision.models)
    return [name for name in names if name not in _LEFT_OUT]
