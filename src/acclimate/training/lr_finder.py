"""Which learning rate: a test over a range of rates."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count

import torch
from torch import nn

from acclimate.context import Context, derive_seed, process_rank
from acclimate.errors import RecipeError
from acclimate.models.device import on_device
from acclimate.models.runtime import Normalizer
from acclimate.progress import silent
from acclimate.training.batches.train_batches import ImageBatches, TrainBatch
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.engine.batch_norm import set_mode
from acclimate.training.engine.distributed import launched
from acclimate.training.engine.divergence import diverged
from acclimate.training.engine.step import Objective, Step
from acclimate.training.optim.optimizers import (
    OPTIMIZERS,
    OptimizerFactory,
    parameter_groups,
    train_mode,
)
from acclimate.training.plan import TrainPlan

STEPS = 60
_BELOW, _ABOVE = 1e-2, 1e3
"""The range, in parts of the rate that auto takes."""
_SMOOTH = 0.8
"""Weight of the past in the smoothed loss: about the last five steps."""
_TORN = 4.0
"""Times the least loss at which the network is lost, and the test ends."""
_SAFETY = 0.1
"""Part of the rate at the least loss: there the network is at the edge of what it can bear
(Smith 2015), and a loss that is smoothed sees the edge too late."""


@dataclass(frozen=True)
class RateCurve:
    """What a range test saw.

    Attributes:
        rates: Of the head, rising; one a step.
        losses: Of each step's batch, before the step.
        smoothed: The same without the noise of single batches.
        suggestion: A rate to train at.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float


def range_test(
    network: nn.Module,
    views: TrainingImages,
    objective: Objective,
    plan: TrainPlan,
    *,
    context: Context,
    optimizer: OptimizerFactory | None = None,
) -> RateCurve:
    """Trains a network for 60 steps at rates that rise from useless to destructive.

    Then its weights are put back.

    Source: Smith 2015, "Cyclical learning rates", arXiv 1506.01186. The rate rises by the same
    factor each step. The suggestion is a tenth of the rate at which the smoothed loss was least.

    Args:
        network: In the end unchanged, on the plan's device.
        views: The images; only those of train are seen.
        objective: What is made small.
        plan: Numbers; the range goes from a hundredth of its rate to a thousand times it.
        context: Seed, progress.
        optimizer: In place of the one that the plan names.

    Returns:
        The curve up to where the loss ran away, and the suggestion.

    Raises:
        RecipeError: The loss is no number at the lowest rate already.
    """
    lowest, highest = plan.learning_rate * _BELOW, plan.learning_rate * _ABOVE
    rates = [lowest * (highest / lowest) ** (i / (STEPS - 1)) for i in range(STEPS)]
    losses: list[float] = []
    # Dropout draws from the global generator, whose numbers belong to the training.
    with (
        torch.random.fork_rng(),
        _put_back(network),
        context.progress.task("rates", STEPS, "steps") as task,
    ):
        torch.manual_seed(derive_seed(context.seed, "rates", process_rank()) % 2**63)
        trial = TrialSteps(network, views, objective, plan, context, optimizer)
        for rate in rates:
            try:
                losses.append(trial.loss(rate))
            except RecipeError:
                if not losses:
                    raise
                break
            task.advance()
            task.note(f"rate {rate:.1e}, loss {losses[-1]:.3f}")
            if _smoothed(losses)[-1] > _TORN * min(_smoothed(losses)):
                break
    smoothed = _smoothed(losses)
    least = smoothed.index(min(smoothed))
    return RateCurve(
        tuple(rates[: len(losses)]), tuple(losses), tuple(smoothed), rates[least] * _SAFETY
    )


def resolve_rate(
    plan: TrainPlan,
    network: nn.Module,
    views: TrainingImages,
    objective: Objective,
    *,
    context: Context,
    optimizer: OptimizerFactory | None = None,
) -> TrainPlan:
    """The plan with the rate that a range test suggests, where the settings ask for it.

    Args:
        plan: Of a stage that trains.
        network: Unchanged.
        views: The images.
        objective: What is made small.
        context: Seed, progress.
        optimizer: In place of the one that the plan names.

    Returns:
        The plan; the same where the rate is known.
    """
    if not plan.find_rate:
        return plan
    found = range_test(network, views, objective, plan, context=context, optimizer=optimizer)
    reason = (
        f"{found.suggestion:.2g}, a tenth of the rate at which a range test of "
        f"{len(found.rates)} steps had the least loss"
    )
    context.progress.info(f"learning_rate: {reason}")
    reasons = {**plan.reasons, "learning_rate": reason}
    return replace(plan, learning_rate=found.suggestion, find_rate=False, reasons=reasons)


@contextmanager
def _put_back(network: nn.Module) -> Iterator[None]:
    """Gives a network its weights back, in place: what hooks into it knows it, and no copy."""
    before, training = copy.deepcopy(network.state_dict()), network.training
    try:
        yield
    finally:
        network.load_state_dict(before)
        network.zero_grad()
        network.train(training)


class TrialSteps:
    """The network, and batches for it without end: single steps at any rate.

    Args:
        network: Learns; in the end on the plan's device.
        views: The images; only those of train are seen.
        objective: What is made small.
        plan: Numbers.
        context: Seed.
        optimizer: In place of the one that the plan names.
    """

    def __init__(
        self,
        network: nn.Module,
        views: TrainingImages,
        objective: Objective,
        plan: TrainPlan,
        context: Context,
        optimizer: OptimizerFactory | None = None,
    ) -> None:
        fabric = launched(plan)
        views = views if views.context else replace(views, context=context)
        plain = on_device(network, fabric.device)
        groups = parameter_groups(
            plain,
            learning_rate=1.0,
            layer_decay=plan.layer_decay,
            weight_decay=plan.weight_decay,
        )
        built = (optimizer or OPTIMIZERS[plan.optimizer])(groups)
        built = fabric.setup_optimizers(built)
        set_mode(plain, freeze_batch_norm=plan.freeze_batch_norm)
        train_mode(built)
        to_input = Normalizer(views.contract, fabric.device)
        self._plan, self._seed = plan, derive_seed(context.seed, "rates", process_rank()) % 2**32
        # One cycle's momentum goes with its schedule, not with a rate that only rises.
        self._step = Step(fabric, plain, built, objective, to_input, _constant(plan), silent.info)
        on = fabric.device if plan.augment_on_device else None
        seed = derive_seed(context.seed, "rates")
        self._batches = _endless(ImageBatches(views, plan.batch_size, seed, on=on))

    def loss(self, rate: float) -> float:
        """A batch's mean loss, before a step at a rate.

        Args:
            rate: Of the head.

        Returns:
            The loss.

        Raises:
            RecipeError: Loss or gradient is no number.
        """
        batch = next(self._batches)
        self._seed += 1
        result = self._step.take(batch, rate, self._seed)
        if result.fault is not None:
            raise diverged(result.fault.what, result.fault.value, f"rate {rate:.2g}", self._plan)
        return result.loss / batch.global_size


def _constant(plan: TrainPlan) -> TrainPlan:
    return replace(plan, schedule="constant")


def _endless(source: ImageBatches) -> Iterator[TrainBatch]:
    for epoch in count(1):
        yield from source.train_batches(epoch)


def _smoothed(losses: list[float]) -> list[float]:
    """Running means in which the past fades; their first values are not drawn to zero."""
    means: list[float] = []
    total = weight = 0.0
    for loss in losses:
        total = _SMOOTH * total + loss
        weight = _SMOOTH * weight + 1
        means.append(total / weight if math.isfinite(total) else math.inf)
    return means
