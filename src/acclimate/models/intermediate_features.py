"""Intermediate features: textures and parts, which the last layer keeps little of."""

import torch
from torch import nn

from acclimate.models.structure import blocks

_DEPTHS = (0.6, 0.8)
"""Positions among the network's blocks whose outputs are used: the begin and end of
EfficientNet-Lite's fifth and sixth stages. Earlier ones helped on one of four data sets and were
worse on another."""


class WithIntermediateFeatures(nn.Module):
    """A backbone that appends intermediate features to its own.

    Args:
        network: A backbone: float32 (B, 3, S, S) to (B, D).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """float32 (B, D + M): the features, then the mean outputs of some blocks."""
        features, middle = self.with_intermediate(images)
        return torch.cat([features, *middle], 1)

    def with_intermediate(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Returns features and intermediate features separately.

        Args:
            images: float32 (B, 3, S, S).

        Returns:
            Features, float32 (B, D); and means over positions, each float32 (B, C), M in total.
        """
        collected: list[torch.Tensor] = []

        def collect(_module: nn.Module, _inputs: object, output: object) -> None:
            collected.extend(_pooled(output))

        parts = [part for _, part in blocks(self.network)]
        chosen = [parts[int(depth * len(parts))] for depth in _DEPTHS] if parts else []
        # Registered for one call, because copies of the network would share permanent hooks.
        hooks = [part.register_forward_hook(collect) for part in chosen]
        features: torch.Tensor = self.network(images)
        for hook in hooks:
            hook.remove()
        return features, collected


def _pooled(output: object) -> list[torch.Tensor]:
    """float32 (B, C), or nothing if the output is neither a feature map nor tokens."""
    if not isinstance(output, torch.Tensor) or output.ndim not in (3, 4):
        return []
    if output.ndim == 3:
        return [output.mean(1)]
    # Some transformers put channels last. Images are square, so the two equal sides are spatial.
    last = output.shape[1] == output.shape[2] != output.shape[3]
    return [output.mean((1, 2) if last else (2, 3))]


def intermediate_size(network: WithIntermediateFeatures, image_size: int, channels: int = 3) -> int:
    """The number of intermediate features.

    Args:
        network: In evaluation mode.
        image_size: px.
        channels: 1 for grey images.

    Returns:
        M; 0 if no block's output can be averaged.
    """
    first = next(network.parameters(), None)  # a head on plain pixels has no layer before it
    device = None if first is None else first.device
    example = torch.zeros(1, channels, image_size, image_size, device=device)
    with torch.inference_mode():
        return sum(part.shape[1] for part in network.with_intermediate(example)[1])
