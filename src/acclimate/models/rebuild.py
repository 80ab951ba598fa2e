"""Rebuilds a saved network from the name of its architecture and its weights."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from acclimate.errors import ModelFileError, reason
from acclimate.models.heads import match_head
from acclimate.models.structure import create, fit_to_shapes, set_input_size
from acclimate.models.torchvision_networks import PREFIX, create_torchvision


def build(
    architecture: str,
    num_classes: int,
    weights: Mapping[str, torch.Tensor],
    counts: Mapping[str, int],
    where: Path,
    image_size: int | None = None,
) -> nn.Module:
    """Builds an architecture and resizes its layers to the shapes of (perhaps pruned) weights.

    Args:
        architecture: "timm:NAME" or "torchvision:NAME".
        num_classes: Outputs of the head.
        weights: Name to tensor.
        counts: Groups of the grouped convolutions.
        where: Path for error messages.
        image_size: px, for networks built for one size; None for their default.

    Returns:
        The network in evaluation mode, with the weights loaded.

    Raises:
        ModelFileError: The name is unknown, or the weights do not fit.
    """
    if architecture.startswith(PREFIX):
        network = create_torchvision(architecture, num_classes)
    else:
        network = create(architecture, num_classes, weights)
    if image_size is not None:
        set_input_size(network, image_size)
    match_head(network, weights, num_classes)
    fit_to_shapes(network, weights, counts)
    try:
        missing, extra = network.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ModelFileError(
            f"weights do not fit {architecture} ({reason(error, line=-1)}).", where=where
        ) from error
    if missing or extra:
        raise ModelFileError(
            f"weights do not fit {architecture}: {(list(missing) + list(extra))[0]!r} is missing "
            "or too much.",
            where=where,
        )
    return network.eval()
