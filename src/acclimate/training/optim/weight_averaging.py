"""Weights that are a mean over steps: judged, and kept, in place of the last step's."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from acclimate.training.curve import Epoch

Weights = dict[str, torch.Tensor]
"""A network's state: floating-point tensors are averaged, counters are copied."""

Scheme = Callable[[int, float], float | None]
"""(steps averaged so far, fraction of the training done) to the weight of the new step in the mean,
in (0, 1]; None if no mean is kept."""

_MOST_DECAY = 0.9998
_SWA_FROM = 0.75
_INGREDIENTS = 5
"""Epochs whose weights a soup may be made of: the best ones, since all would fill the memory."""


def own(count: int, done: float) -> None:
    """No mean: the weights as they are."""


def ema(count: int, done: float) -> float:
    """Exponential moving average; the decay rises as (1 + t) / (10 + t), as in timm's ModelEmaV3.

    So it never remembers the start of a short training: at 300 steps it is a mean of about 34.
    """
    return 1 - min(_MOST_DECAY, (1 + count) / (10 + count))


def swa(count: int, done: float) -> float | None:
    """Stochastic weight averaging (Izmailov et al. 2018, arXiv 1803.05407).

    The plain mean of all steps of the last quarter. Of steps, not epochs: small data has few.
    """
    return None if done <= _SWA_FROM else 1 / (count + 1)


class Averager:
    """What is kept beside the network while it trains.

    Args:
        name: In `AVERAGES`.
    """

    def __init__(self, name: str) -> None:
        self.step_weight, self.soup = AVERAGES[name], name == "soup"
        self.count = 0
        self.mean: Weights = {}
        self.ingredients: dict[int, Weights] = {}

    @torch.no_grad()
    def after_step(self, network: nn.Module, done: float) -> None:
        """Takes the weights of a step into the mean.

        Args:
            network: After the step.
            done: Part of the training, in (0, 1].
        """
        weight = self.step_weight(self.count, done)
        if weight is None:
            return
        now = network.state_dict()
        if not self.mean:
            self.mean = {name: t.detach().clone() for name, t in now.items()}
        for name, mean in self.mean.items():
            # Buffers too: running statistics belong to the weights that made them.
            if mean.is_floating_point():
                mean.lerp_(now[name].to(mean), weight)
            else:
                mean.copy_(now[name])
        self.count += 1

    @contextmanager
    def shown(self, network: nn.Module) -> Iterator[None]:
        """The network has the mean's weights inside, and its own again after."""
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
        """Keeps the weights of an epoch, if they may come into a soup.

        Args:
            line: The epoch.
            curve: All epochs up to this one.
            network: With that epoch's weights.
        """
        if not self.soup:
            return
        self.ingredients[line.epoch] = copied(network)
        for epoch in in_order(self.ingredients, curve)[_INGREDIENTS:]:
            del self.ingredients[epoch]

    def state_dict(self) -> dict[str, Any]:
        """What a killed training needs to go on: tensors and numbers."""
        return {
            "count": self.count,
            "mean": {name: t.cpu().clone() for name, t in self.mean.items()},
            "ingredients": dict(self.ingredients),
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Goes on from a state.

        Args:
            state: Of `state_dict`.
            device: Where the network is.
        """
        self.count, self.ingredients = state["count"], state["ingredients"]
        self.mean = {name: t.to(device) for name, t in state["mean"].items()}


def copied(network: nn.Module) -> Weights:
    """A network's state, on the CPU, its own."""
    return {name: t.detach().cpu().clone() for name, t in network.state_dict().items()}


def in_order(epochs: dict[int, Weights], curve: list[Epoch]) -> list[int]:
    """Epochs by what val says of them, the best first: accuracy, then loss."""
    return sorted(epochs, key=lambda e: (-curve[e].val_accuracy, curve[e].val_loss))


AVERAGES: dict[str, Scheme] = {"none": own, "ema": ema, "swa": swa, "soup": own}
"""How each step's weights go into the mean. A soup is made after the last epoch."""
