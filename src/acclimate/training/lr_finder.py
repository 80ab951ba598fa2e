"""The learning-rate finder: a test over a range of rates."""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from acclimate.context import Context, derive_seed, process_rank
from acclimate.data.dataset import Rows
from acclimate.errors import RecipeError
from acclimate.models.device import on_device
from acclimate.models.runtime import Normalizer
from acclimate.progress import silent
from acclimate.training.batches.train_batches import ImageBatches, TrainBatch
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.engine.batch_norm import set_mode
from acclimate.training.engine.distributed import joined, launched
from acclimate.training.engine.divergence import diverged
from acclimate.training.engine.step import LossInputs, Objective, Step
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
_DIVERGED = 4.0
"""The test ends when the loss exceeds the least loss by this factor."""
_LOOKED_AT = 96
"""Images whose loss is looked at, in views that stay the same over all rates."""
_TOGETHER = 32
"""Images whose loss is computed together, where batches are smaller."""
_SURE = 2.0
"""Standard errors by which the loss must exceed its floor to have left it."""
_FIRST_STEPS = 3
"""A loss that rises within these steps has no floor within the range."""
_SAFETY = 0.5
"""Factor from the rate where the loss leaves its floor to the suggestion."""


@dataclass(frozen=True)
class RateCurve:
    """The result of a range test.

    Attributes:
        rates: Learning rate of the head in each step, rising.
        losses: Mean loss before the step, over images that are the same in all steps.
        errors: Standard error of the difference of this loss and the lowest one.
        suggestion: The suggested learning rate; None if the curve does not show one.
        reason: How the suggestion was found, or why there is none.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    errors: tuple[float, ...]
    suggestion: float | None
    reason: str


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

    The rate rises by the same factor each step (Smith 2015, "Cyclical learning rates", arXiv
    1506.01186). In contrast to the paper, the loss is not that of each step's batch, but of the
    same images in the same views before each step. From a fitted head the loss hardly falls, and
    the differences between batches would hide where it begins to rise.

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
    losses: list[NDArray[np.float64]] = []
    # Dropout uses the global generator, whose state belongs to the training.
    with (
        torch.random.fork_rng(),
        _restored(network),
        context.progress.task("rates", STEPS, "steps") as task,
    ):
        torch.manual_seed(derive_seed(context.seed, "rates", process_rank()) % 2**63)
        trial = TrialSteps(network, images, objective, plan, context, optimizer)
        seen = trial.draw(_LOOKED_AT)
        for rate in rates:
            losses.append(trial.losses(seen))
            means = [float(found.mean()) for found in losses]
            # NaN at the lowest rate is the next step's error.
            if len(means) > 1 and not means[-1] <= _DIVERGED * min(means):
                break
            try:
                trial.loss(rate)
            except RecipeError:
                if len(losses) == 1:
                    raise
                break
            task.advance()
            task.note(f"rate {rate:.1e}, loss {means[-1]:.3f}")
    return read_curve(rates[: len(losses)], losses)


def read_curve(rates: Sequence[float], losses: Sequence[NDArray[np.float64]]) -> RateCurve:
    """Finds where the loss leaves its floor for good.

    Args:
        rates: Learning rate of each step, rising.
        losses: Loss of each image before each step, (N,); the images are the same in all steps.

    Returns:
        The curve, with a suggestion if it shows one.
    """
    table = np.stack(losses)  # (S, N)
    means = np.where(np.isfinite(table).all(1), table.mean(1), np.inf)
    floor = int(means.argmin())
    change = table - table[floor]
    errors = np.nan_to_num(change.std(1, ddof=1) / math.sqrt(table.shape[1]))
    left = int(np.flatnonzero(means - means[floor] <= _SURE * errors)[-1])
    suggestion: float | None = rates[left] * _SAFETY
    reason = "half of the rate at which the loss leaves its floor"
    if left == len(rates) - 1:
        suggestion, reason = None, f"the loss does not rise up to a rate of {rates[-1]:.2g}"
    elif left < _FIRST_STEPS:
        suggestion, reason = None, f"the loss rises already at a rate of {rates[0]:.2g}"
    return RateCurve(
        tuple(rates), tuple(means.tolist()), tuple(errors.tolist()), suggestion, reason
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
    if found.suggestion is None:
        rate = plan.learning_rate
        reason = f"{rate:.2g}, as auto, because the range test shows no rate: {found.reason}"
    else:
        rate = found.suggestion
        reason = f"{rate:.2g}, {found.reason} in a range test of {len(found.rates)} steps"
    context.progress.info(f"learning_rate: {reason}")
    reasons = {**plan.reasons, "learning_rate": reason}
    return replace(plan, learning_rate=rate, find_rate=False, reasons=reasons)


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
        fabric = self._fabric = launched(plan)
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
        self._objective, self._to_input = objective, Normalizer(images.contract, fabric.device)
        self._plan, self._seed = plan, derive_seed(context.seed, "rates", process_rank()) % 2**32
        # One cycle's momentum belongs to its schedule, not to a rate that only rises.
        self._step = Step(
            fabric,
            plain,
            built,
            objective,
            self._to_input,
            replace(plan, schedule="constant"),
            silent.info,
        )
        on = fabric.device if plan.augment_on_device else None
        seed = derive_seed(context.seed, "rates")
        self._batches = _repeat_epochs(ImageBatches(images, plan.batch_size, seed, on=on))

    def draw(self, images: int) -> list[TrainBatch]:
        """Takes the next batches of the stream, without training on them.

        Args:
            images: Least number of images over all processes.

        Returns:
            The part of this process of each batch.
        """
        drawn: list[TrainBatch] = []
        while sum(batch.global_size for batch in drawn) < images:
            drawn.append(next(self._batches))
        return drawn

    def losses(self, batches: Sequence[TrainBatch]) -> NDArray[np.float64]:
        """The loss of each image as in evaluation: without dropout and without a step.

        Args:
            batches: From `draw`.

        Returns:
            (N,), of all processes, always in the same order.
        """
        network, device = self._step.network, self._fabric.device
        network.eval()
        found: list[float] = []
        for images, targets, rows in _together([batch for batch in batches if batch.weight]):
            inputs, targets = self._to_input(images), targets.to(device)
            with torch.no_grad():
                with self._fabric.autocast():
                    logits = network(inputs).float()
                found += self._objective(logits, LossInputs(inputs, targets, rows)).tolist()
        set_mode(network, freeze_batch_norm=self._plan.freeze_batch_norm)
        return np.asarray(joined(self._fabric, found), np.float64)

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


def _repeat_epochs(source: ImageBatches) -> Iterator[TrainBatch]:
    for epoch in count(1):
        yield from source.train_batches(epoch)


def _together(batches: Sequence[TrainBatch]) -> Iterator[tuple[torch.Tensor, torch.Tensor, Rows]]:
    """Images (of several views the plain one), targets and rows, of small batches together."""
    groups: list[list[tuple[torch.Tensor, torch.Tensor, Rows]]] = []
    shapes, count = None, 0
    for batch in batches:
        images, targets = torch.as_tensor(batch.images), torch.as_tensor(batch.targets)
        images = images if batch.consistency is None else images[:, 0]
        if shapes != (images.shape[1:], targets.shape[1:]) or count + len(images) > _TOGETHER:
            groups.append([])
            shapes, count = (images.shape[1:], targets.shape[1:]), 0
        groups[-1].append((images, targets, batch.rows))
        count += len(images)
    for group in groups:
        joined_images, joined_targets, rows = zip(*group, strict=True)
        yield torch.cat(joined_images), torch.cat(joined_targets), np.concatenate(rows)
