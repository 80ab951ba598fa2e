"""A learned projection from a student's features to its teacher's, there while it learns only."""

import copy
from typing import Any

import torch
from torch import nn

from acclimate.models.structure import head

_NAME = "hint_projection"


class HintProjection:
    """What a student's features say of the teacher's.

    The projection becomes a part of the network: it is trained, checkpointed and shared between
    processes as every other part is. `without_projection` gives the network without it.

    Args:
        network: The student; changed in place.
        width: Of the teacher's features.
        seed: Of the projection's first weights.
    """

    def __init__(self, network: nn.Module, width: int, seed: int) -> None:
        layer = head(network)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed % 2**63)
            projection = nn.Linear(layer.in_features, width)
        self.projected: torch.Tensor | None = None
        """float32, (b, D): of the batch that was seen last, in training."""

        def project(_: nn.Module, given: tuple[Any, ...]) -> None:
            # Inside the network's own forward pass, where several processes expect it.
            self.projected = projection(given[0]).float() if network.training else None

        layer.register_forward_pre_hook(project)
        network.add_module(_NAME, projection)


def without_projection(trained: nn.Module, plain: nn.Module) -> nn.Module:
    """A trained network without its projection.

    Args:
        trained: As `HintProjection` changed it.
        plain: As it was before; not changed.

    Returns:
        A copy of `plain` with the weights of `trained`.
    """
    network = copy.deepcopy(plain)
    weights = trained.state_dict()
    network.load_state_dict({n: t for n, t in weights.items() if not n.startswith(f"{_NAME}.")})
    return network.eval()
