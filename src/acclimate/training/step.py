"""One update of the weights."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import nn

from acclimate.data.dataset import Rows
from acclimate.errors import RecipeError
from acclimate.models.runtime import Normalizer
from acclimate.training.feed import Share
from acclimate.training.plan import TrainPlan


@dataclass(frozen=True)
class Seen:
    """What a batch's losses may depend on beside the logits.

    Attributes:
        inputs: float32, (b, 3, S, S): what the network was given.
        targets: int64 class ids (b,), or float32 probabilities (b, C).
        rows: int64, (b,): where in the table the images stand.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    rows: Rows


Objective = Callable[[torch.Tensor, Seen], torch.Tensor]
"""(logits (b, C), what was seen) to one loss an image (b,)."""


class Step:
    """What turns a share of a batch into an update.

    Args:
        fabric: The processes.
        network: Set up by it.
        rule: The optimizer, set up by it; its groups hold their `peak` rates.
        objective: What is made small.
        to_input: uint8 images to what the network reads.
        plan: Numbers.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: nn.Module,
        rule: torch.optim.Optimizer,
        objective: Objective,
        to_input: Normalizer,
        plan: TrainPlan,
    ) -> None:
        self.fabric, self.network, self.rule = fabric, network, rule
        self.objective, self.to_input, self.plan = objective, to_input, plan

    def take(self, share: Share, rate: float, when: str) -> float:
        """One update.

        Args:
            share: This process's part of the batch.
            rate: Factor of the peak rates.
            when: Names the step in an error.

        Returns:
            The loss, summed over the images of all processes.

        Raises:
            RecipeError: The loss or its gradient is no longer a number.
        """
        for group in self.rule.param_groups:
            group["lr"] = group["peak"] * rate
        summed = self._backward(share)
        if not math.isfinite(summed):
            raise diverged("loss", summed, when, self.plan)
        length = self.fabric.clip_gradients(
            self.network,
            self.rule,
            max_norm=self.plan.max_gradient_norm,
            error_if_nonfinite=False,
        )
        if length is not None and not math.isfinite(float(length)):
            raise diverged("the gradient's length", float(length), when, self.plan)
        self.rule.step()
        self.rule.zero_grad()
        return summed

    def _backward(self, share: Share) -> float:
        """Adds to the gradients; the loss summed over the images of all processes."""
        inputs = self.to_input(torch.from_numpy(share.images))
        targets = torch.from_numpy(share.targets).to(self.fabric.device)
        seen = Seen(inputs, targets, share.rows)
        losses = self.objective(self.network(inputs), seen) * share.weight
        # Gradients are averaged over processes: times their number, over the whole batch, gives
        # the very gradient that one process would have.
        self.fabric.backward(losses.sum() * (self.fabric.world_size / share.whole))
        return summed_over(self.fabric, losses.detach().sum())


def summed_over(fabric: Fabric, value: torch.Tensor) -> float:
    """A number, summed over all processes."""
    if fabric.world_size == 1:
        return float(value)
    moved = value.to(fabric.device, torch.float32)
    return float(fabric.all_reduce(moved, reduce_op="sum"))


def diverged(what: str, value: float, when: str, plan: TrainPlan) -> RecipeError:
    """What is said of a training whose numbers ran away.

    Args:
        what: The number.
        value: No longer finite.
        when: Where in the training.
        plan: Holds the rate.

    Returns:
        The error, to be raised.
    """
    return RecipeError(
        f"{what} is {value} at {when}: the training diverges.",
        where="learning_rate",
        hint=f"Lower it; it was {plan.learning_rate:g}.",
    )
