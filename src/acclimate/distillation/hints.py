"""A learned projection from the student's features to the teachers', used only in training."""

import copy
from typing import Any

import torch
from torch import nn

from acclimate.models.structure import head

_NAME = "hint_projection"


class HintProjection:
    """Projects the student's features to the width of the teachers' features.

    The projection becomes a module of the network, so it is trained, checkpointed and synchronized
    between processes like every other module. `without_projection` removes it.

    Args:
        network: The student; changed in place.
        width: Width of the teachers' features.
        seed: Seed of the projection's initial weights.
    """

    def __init__(self, network: nn.Module, width: int, seed: int) -> None:
        layer = head(network)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed % 2**63)
            projection = nn.Linear(layer.in_features, width)
        self.projected: torch.Tensor | None = None
        """float32, (b, D): projected features of the last batch; None in evaluation mode."""

        def project(_: nn.Module, given: tuple[Any, ...]) -> None:
            # Runs inside the network's forward pass, as distributed training requires.
            self.projected = projection(given[0]).float() if network.training else None

        layer.register_forward_pre_hook(project)
        network.add_module(_NAME, projection)


def without_projection(trained: nn.Module, plain: nn.Module) -> nn.Module:
    """Removes the projection from a trained network.

    Args:
        trained: The network with its projection.
        plain: The network before the projection was added; not changed.

    Returns:
        A copy of `plain` with the weights of `trained`.
    """
    network = copy.deepcopy(plain)
    weights = trained.state_dict()
    network.load_state_dict({n: t for n, t in weights.items() if not n.startswith(f"{_NAME}.")})
    return network.eval()
