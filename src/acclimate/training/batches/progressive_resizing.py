"""Progressive resizing: small images first, the network's own size last."""

import torch
from torch import nn

from acclimate.errors import RecipeError

_STEP = 32
"""In px; most networks halve the image size five times."""
_GROWING = 2 / 3


def growing_sizes(start: int, full: int, epochs: int) -> tuple[int, ...]:
    """The side of the training images in each epoch.

    The size grows linearly in steps of 32 px over two thirds of the epochs; the last third is
    trained at full size, which validation always uses. Source: Howard's progressive resizing (2018)
    and Tan and Le 2021, "EfficientNetV2", arXiv 2104.00298.

    Args:
        start: First size in px.
        full: Size of the network in px.
        epochs: Number of epochs, at least 1.

    Returns:
        One size per epoch, never smaller than the one before; the last is the full size.

    Raises:
        RecipeError: The start is not smaller than the full size.
    """
    if start >= full:
        raise RecipeError(
            f"start_size {start} is not smaller than the model's image_size, {full}.",
            where="start_size",
            hint="Lower it, or leave it out.",
        )
    growing = int(epochs * _GROWING)
    grown = ((full - start) * epoch / growing for epoch in range(growing))
    return (*(start + int(more) // _STEP * _STEP for more in grown), *[full] * (epochs - growing))


def check_sizes(network: nn.Module, sizes: tuple[int, ...], name: str, channels: int = 3) -> None:
    """Refuses sizes that a network cannot be run at.

    Args:
        network: Network in evaluation mode, on the CPU.
        sizes: Image sizes in px.
        name: Name of the network for the message.
        channels: 1 for grey images.

    Raises:
        RecipeError: The network cannot be run at one of the sizes.
    """
    for size in sorted(set(sizes)):
        try:
            with torch.inference_mode():
                network(torch.zeros(1, channels, size, size))
        except (RuntimeError, AssertionError) as error:
            raise RecipeError(
                f"{name} cannot be run on images of {size} px.",
                where="start_size",
                hint="The model takes one image size only: leave start_size out.",
            ) from error
