"""Low-rank adapters on the weights of linear and convolution layers.

Source: Hu et al. 2021, "LoRA", arXiv 2106.09685. The low-rank matrix is added to the frozen weight
in weight space (`torch.nn.utils.parametrize`), which works for linear, convolution and grouped
layers alike. The merged network computes exactly what the trained one computed.
"""

import math

import torch
from torch import nn
from torch.nn.utils import parametrize

from acclimate.models.heads import head_kind, head_root
from acclimate.models.structure import head


class LowRank(nn.Module):
    """Adds `alpha / rank * up @ down` to a weight, as a matrix with one row per output.

    Args:
        weight: float, (O, ...).
        rank: At least 1.
        alpha: Strength.
        generator: Initializes `down`; `up` starts at zero, which changes nothing.
    """

    def __init__(
        self, weight: torch.Tensor, rank: int, alpha: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        down = torch.empty(rank, columns)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=generator)
        self.down = nn.Parameter(down)
        self.up = nn.Parameter(torch.zeros(rows, rank))
        self.scale = alpha / rank

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight with its adapter."""
        return weight + (self.scale * self.up @ self.down).view(weight.shape)


def adapt(network: nn.Module, rank: int, alpha: float, seed: int) -> tuple[int, int]:
    """Freezes a network except for its head and adds adapters to its weights.

    If an adapter would have as many parameters as the weight itself (depthwise convolutions have 9
    per channel), the weight is trained instead. Norms and biases stay frozen.

    Args:
        network: Changed in place; its outputs stay the same.
        rank: Rank of each adapter.
        alpha: Scaling of each adapter.
        seed: Seed of the initialization.

    Returns:
        The number of layers with an adapter, and the number of layers trained in full.
    """
    root = head_root(network)
    generator = torch.Generator().manual_seed(seed % 2**63)
    network.requires_grad_(False)
    network.get_submodule(root).requires_grad_(True)
    adapted = whole = 0
    for name, module in list(network.named_modules()):
        if not isinstance(module, (nn.Linear, nn.Conv2d)) or f"{name}.".startswith(f"{root}."):
            continue
        if parametrize.is_parametrized(module):
            continue  # the user's own, such as spectral norm
        weight = module.weight
        if rank * (weight.shape[0] + weight[0].numel()) < weight.numel():
            adapter = LowRank(weight, rank, alpha, generator)
            parametrize.register_parametrization(module, "weight", adapter)
            adapted += 1
        else:
            weight.requires_grad_(True)
            whole += 1
    return adapted, whole


def merge(network: nn.Module) -> None:
    """Turns every parametrized weight into an ordinary one of the same values, in place."""
    for module in list(network.modules()):
        if not parametrize.is_parametrized(module):
            continue
        for name in list(module.parametrizations):  # type: ignore[arg-type]
            if _ours(module, name):
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
                _first(module, name)


def _first(module: nn.Module, name: str) -> None:
    """Moves a parameter before the others of its module, the order in which layers define them."""
    for other, parameter in list(module.named_parameters(recurse=False)):
        if other != name:
            delattr(module, other)
            module.register_parameter(other, parameter)


def _ours(module: nn.Module, name: str) -> bool:
    """Whether acclimate added a parametrization; those of the user stay."""
    steps = module.parametrizations[name]  # type: ignore[index]
    return all(isinstance(step, (LowRank, Directions)) for step in steps)


class Directions(nn.Module):
    """Weights whose rows have one common, learned length: the layer of a cosine head.

    Args:
        weight: float, (C, D): the length starts at the mean of the rows' lengths.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.log_length = nn.Parameter(weight.detach().norm(dim=1).mean().clamp_min(1e-6).log())

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """(C, D) to rows of the learned length."""
        return nn.functional.normalize(weight, dim=1) * self.log_length.exp()


def constrain(network: nn.Module) -> None:
    """Keeps the rows of a cosine head at one length until `merge` is called.

    Args:
        network: Changed in place. A network with another head, or with rows of different lengths,
            stays as it is.
    """
    if head_kind(network) != "cosine":
        return
    layer = head(network)
    lengths = layer.weight.detach().norm(dim=1)
    if torch.allclose(lengths, lengths.mean(), rtol=1e-3):
        parametrize.register_parametrization(layer, "weight", Directions(layer.weight))
