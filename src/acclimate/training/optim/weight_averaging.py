"""Weight averaging over steps: the mean is validated and kept instead of the last weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from acclimate.training.curve import Epoch

Weights = dict[str, torch.Tensor]
"""State of a network: floating-point tensors are averaged, counters are copied."""

Scheme = Callable[[int, float], float | None]
"""(steps averaged so far, fraction of the training done) to the weight of the new step in the mean,
in (0, 1]; None if no mean is kept."""

_MOST_DECAY = 0.9998
_SWA_FROM = 0.75
_INGREDIENTS = 5
"""Number of best epochs whose weights are kept for a soup; all of them would fill the memory."""


def own(count: int, done: float) -> None:
    """No averaging."""


def ema(count: int, done: float) -> float:
    """Exponential moving average; the decay rises as (1 + t) / (10 + t), as in timm's ModelEmaV3.

    So a short training does not remember its start: after 300 steps it averages about 34.
    """
    return 1 - min(_MOST_DECAY, (1 + count) / (10 + count))


def swa(count: int, done: float) -> float | None:
    """Stochastic weight averaging (Izmailov et al. 2018, arXiv 1803.05407).

    The mean over all steps of the last quarter; of steps, because small data has few epochs.
    """
    return None if done <= _SWA_FROM else 1 / (count + 1)


class Averager:
    """Averages the weights of a network during training, and collects epochs for a soup.

    Args:
        name: A name in `AVERAGES`.
    """

    def __init__(self, name: str) -> None:
        self.step_weight, self.soup = AVERAGES[name], name == "soup"
        self.count = 0
        self.mean: Weights = {}
        self.ingredients: dict[int, Weights] = {}

    @torch.no_grad()
    def after_step(self, network: nn.Module, done: float) -> None:
        """Adds the weights after a step to the mean.

        Args:
            network: The network after the step.
            done: Fraction of the training that is done, in (0, 1].
        """
        weight = self.step_weight(self.count, done)
        if weight is None:
            return
        now = network.state_dict()
        if not self.mean:
            self.mean = {name: t.detach().clone() for name, t in now.items()}
        for name, mean in self.mean.items():
            # Buffers too, because running statistics belong to the weights.
            if mean.is_floating_point():
                mean.lerp_(now[name].to(mean), weight)
            else:
                mean.copy_(now[name])
        self.count += 1

    @contextmanager
    def shown(self, network: nn.Module) -> Iterator[None]:
        """Gives the network the averaged weights inside the context, and its own ones after it."""
        if not self.mean:
            yield
            return
        last = copied(network)
        network.load_state_dict(self.mean)
        try:
            yield
        finally:
            network.load_state_dict(last)

    def after_epoch(self, line: Epoch, curve: list[Epoch], network: nn.Module) -> None:
        """Keeps the weights of an epoch if they may become part of a soup.

        Args:
            line: Entry of the epoch.
            curve: All entries up to this one.
            network: Network with the weights of the epoch.
        """
        if not self.soup:
            return
        self.ingredients[line.epoch] = copied(network)
        for epoch in in_order(self.ingredients, curve)[_INGREDIENTS:]:
            del self.ingredients[epoch]

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint: tensors and numbers."""
        return {
            "count": self.count,
            "mean": {name: t.cpu().clone() for name, t in self.mean.items()},
            "ingredients": dict(self.ingredients),
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restores a state.

        Args:
            state: From `state_dict`.
            device: Device of the network.
        """
        self.count, self.ingredients = state["count"], state["ingredients"]
        self.mean = {name: t.to(device) for name, t in state["mean"].items()}


def copied(network: nn.Module) -> Weights:
    """A copy of the state of a network, on the CPU."""
    return {name: t.detach().cpu().clone() for name, t in network.state_dict().items()}


def in_order(epochs: dict[int, Weights], curve: list[Epoch]) -> list[int]:
    """Epochs from best to worst by their accuracy on val, then by loss."""
    return sorted(epochs, key=lambda e: (-curve[e].val_accuracy, curve[e].val_loss))


AVERAGES: dict[str, Scheme] = {"none": own, "ema": ema, "swa": swa, "soup": own}
"""Averaging schemes. A soup is made after the last epoch."""
