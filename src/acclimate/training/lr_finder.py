"""The learning-rate finder: a test over a range of rates."""

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
"""The range, as factors of the default rate."""
_SMOOTH = 0.8
"""Weight of earlier losses in the smoothed loss: about the last five steps."""
_DIVERGED = 4.0
"""The test ends when the loss exceeds the least loss by this factor."""
_SAFETY = 0.1
"""Factor from the rate at the least loss to the suggestion: at the least loss the training is about
to diverge (Smith 2015), and the smoothed loss rises too late."""


@dataclass(frozen=True)
class RateCurve:
    """The result of a range test.

    Attributes:
        rates: Learning rate of the head in each step, rising.
        losses: Loss of each step's batch, before the step.
        smoothed: The smoothed losses.
        suggestion: The suggested learning rate.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float


def range_test(
    network: nn.Module,
    images: TrainingImages,
    objective: Objective,
    plan: TrainPlan,
    *,
    context: Context,
    optimizer: OptimizerFactory | None = None,
) -> RateCurve:
    """Trains a network for 60 steps while the learning rate rises, then restores its weights.

    Source: Smith 2015, "Cyclical learning rates", arXiv 1506.01186. The rate rises by the same
    factor each step. The suggestion is a tenth of the rate at which the smoothed loss was least.

    Args:
        network: Unchanged at the end, on the plan's device.
        images: The images; only training images are used.
        objective: The loss.
        plan: The plan; the range is from a hundredth of its rate to a thousand times it.
        context: Seed, progress.
        optimizer: In place of the one that the plan names.

    Returns:
        The curve up to where the loss diverged, and the suggested rate.

    Raises:
        RecipeError: The loss is not finite at the lowest rate.
    """
    lowest, highest = plan.learning_rate * _BELOW, plan.learning_rate * _ABOVE
    rates = [lowest * (highest / lowest) ** (i / (STEPS - 1)) for i in range(STEPS)]
    losses: list[float] = []
    # Dropout uses the global generator, whose state belongs to the training.
    with (
        torch.random.fork_rng(),
        _restored(network),
        context.progress.task("rates", STEPS, "steps") as task,
    ):
        torch.manual_seed(derive_seed(context.seed, "rates", process_rank()) % 2**63)
        trial = TrialSteps(network, images, objective, plan, context, optimizer)
        for rate in rates:
            try:
                losses.append(trial.loss(rate))
            except RecipeError:
                if not losses:
                    raise
                break
            task.advance()
            task.note(f"rate {rate:.1e}, loss {losses[-1]:.3f}")
            if _smoothed(losses)[-1] > _DIVERGED * min(_smoothed(losses)):
                break
    smoothed = _smoothed(losses)
    least = smoothed.index(min(smoothed))
    return RateCurve(
        tuple(rates[: len(losses)]), tuple(losses), tuple(smoothed), rates[least] * _SAFETY
    )


def resolve_rate(
    plan: TrainPlan,
    network: nn.Module,
    images: TrainingImages,
    objective: Objective,
    *,
    context: Context,
    optimizer: OptimizerFactory | None = None,
) -> TrainPlan:
    """Replaces the plan's learning rate by the suggestion of a range test, if the plan wants one.

    Args:
        plan: The plan.
        network: Unchanged.
        images: The images.
        objective: The loss.
        context: Seed, progress.
        optimizer: In place of the one that the plan names.

    Returns:
        The plan; unchanged if it does not want a range test.
    """
    if not plan.find_rate:
        return plan
    found = range_test(network, images, objective, plan, context=context, optimizer=optimizer)
    reason = (
        f"{found.suggestion:.2g}, a tenth of the rate with the least loss in a range test of "
        f"{len(found.rates)} steps"
    )
    context.progress.info(f"learning_rate: {reason}")
    reasons = {**plan.reasons, "learning_rate": reason}
    return replace(plan, learning_rate=found.suggestion, find_rate=False, reasons=reasons)


@contextmanager
def _restored(network: nn.Module) -> Iterator[None]:
    """Restores the weights at the end, in place, since hooks refer to this very network."""
    before, training = copy.deepcopy(network.state_dict()), network.training
    try:
        yield
    finally:
        network.load_state_dict(before)
        network.zero_grad()
        network.train(training)


class TrialSteps:
    """Single training steps at any learning rate, on an endless stream of batches.

    Args:
        network: Changed in place, and moved to the plan's device.
        images: The images; only training images are used.
        objective: The loss.
        plan: The plan.
        context: Seed.
        optimizer: In place of the one that the plan names.
    """

    def __init__(
        self,
        network: nn.Module,
        images: TrainingImages,
        objective: Objective,
        plan: TrainPlan,
        context: Context,
        optimizer: OptimizerFactory | None = None,
    ) -> None:
        fabric = launched(plan)
        images = images if images.context else replace(images, context=context)
        plain = on_device(network, fabric.device)
        groups = parameter_groups(
            plain,
            learning_rate=1.0,
            layer_decay=plan.layer_decay,
            weight_decay=plan.weight_decay,
        )
        built = (optimizer or OPTIMIZERS[plan.optimizer].create)(groups)
        built = fabric.setup_optimizers(built)
        set_mode(plain, freeze_batch_norm=plan.freeze_batch_norm)
        train_mode(built)
        to_input = Normalizer(images.contract, fabric.device)
        self._plan, self._seed = plan, derive_seed(context.seed, "rates", process_rank()) % 2**32
        # One cycle's momentum belongs to its schedule, not to a rate that only rises.
        self._step = Step(fabric, plain, built, objective, to_input, _constant(plan), silent.info)
        on = fabric.device if plan.augment_on_device else None
        seed = derive_seed(context.seed, "rates")
        self._batches = _repeat_epochs(ImageBatches(images, plan.batch_size, seed, on=on))

    def loss(self, rate: float) -> float:
        """Takes a step and returns the mean loss of its batch before the step.

        Args:
            rate: Learning rate of the head.

        Returns:
            The loss.

        Raises:
            RecipeError: Loss or gradient is not finite.
        """
        batch = next(self._batches)
        self._seed += 1
        result = self._step.take(batch, rate, self._seed)
        if result.fault is not None:
            raise diverged(result.fault.what, result.fault.value, f"rate {rate:.2g}", self._plan)
        return result.loss / batch.global_size


def _constant(plan: TrainPlan) -> TrainPlan:
    return replace(plan, schedule="constant")


def _repeat_epochs(source: ImageBatches) -> Iterator[TrainBatch]:
    for epoch in count(1):
        yield from source.train_batches(epoch)


def _smoothed(losses: list[float]) -> list[float]:
    """Exponential moving averages, corrected for their start at zero."""
    means: list[float] = []
    total = weight = 0.0
    for loss in losses:
        total = _SMOOTH * total + loss
        weight = _SMOOTH * weight + 1
        means.append(total / weight if math.isfinite(total) else math.inf)
    return means
