"""Decides for `trainable: auto` whether all layers are trained or a first part is frozen."""

import copy
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from acclimate.context import Context
from acclimate.errors import count
from acclimate.files import digest_json, read_json, write_json
from acclimate.fine_tuning.settings import FineTune
from acclimate.fine_tuning.trainable_layers import body_blocks, freeze_layers
from acclimate.models.split_network import CannotSplitError
from acclimate.training.batches.frozen_prefix import reason_not_to_cache, split_at_frozen
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.engine.distributed import launched
from acclimate.training.engine.step import Objective
from acclimate.training.lr_finder import TrialSteps
from acclimate.training.plan import TrainPlan

_FILE = "trained.json"
_FEWEST_BLOCKS = 6
"""A network with fewer blocks is always trained whole."""
_FROZEN = 1 / 3
"""Share of the blocks that is frozen: those with the largest activations. EfficientNet-Lite0's take
more than half of a step: 2.0 of 3.0 s at 224 px and batch 32 on one core; their kept activations
are 63 kB per image."""
MIN_STEPS = 50
"""With at least this many steps all layers are trained. Four epochs of all layers against
eight after a frozen third, 400 images, 64 px: 0.636 and 0.679 (CIFAR-10), 0.939 and 0.951 (USPS),
0.393 and 0.407 (MNIST-M), the same on PACS' photos and flowers. At 100 steps, eight epochs against
16: 0.446 and 0.427 (MNIST-M)."""
_TIMED_STEPS = 4
"""Steps that are timed; the first ones are slow."""
_TIMING_SHARE = 0.05
"""Share of the time left that the timing may take."""


@dataclass(frozen=True)
class Choice:
    """Which layers are trained, and why.

    Attributes:
        last: Number of last blocks that are trained with the head; None if all layers are.
        reason: The reason, in words.
    """

    last: int | None
    reason: str

    def apply_to(self, settings: FineTune) -> FineTune:
        """The settings with the choice in place of "auto"."""
        if self.last is None:
            return settings.model_copy(update={"trainable": "all"})
        return settings.model_copy(update={"trainable": "last", "trainable_blocks": self.last})


def choose_trainable(
    network: nn.Module,
    images: TrainingImages,
    objective: Objective,
    plan: TrainPlan,
    context: Context,
) -> Choice:
    """Chooses all layers, or freezes the first third if the time is too short for all.

    Without a time budget all layers are trained. With one, a few steps are timed; if fewer than
    `MIN_STEPS` would fit, the first third of the blocks is frozen, provided that its activations
    can be kept: at 224 px more than twice as many steps fit then.

    The choice is written into the workspace, so that a resumed training uses it again.

    Given enough time all layers are trained, whatever the images: neither relative gradients (Lee
    et al. 2022, arXiv 2210.11466) nor the distance of the first layers' activations from their
    batch-norm statistics predicts if freezing costs accuracy. MNIST-M, which loses 4 points at
    equal epochs, looks like photos to both, and photos lose nothing. A fitted head that is right on
    three quarters of val predicts it in domain (+0.2 points over four trainings), but not in
    another domain (-1.2).

    Args:
        network: With a fitted head; unchanged.
        images: The images.
        objective: The loss.
        plan: The plan with the minutes that are left.
        context: Seed, workspace, size of the cache.

    Returns:
        The choice, the same in all processes.
    """
    fabric = launched(plan)
    choice = (
        _on_first_process(network, images, objective, plan, context)
        if fabric.is_global_zero
        else None
    )
    if fabric.world_size > 1:
        choice = fabric.broadcast(choice)
    assert choice is not None
    return choice


def _on_first_process(
    network: nn.Module,
    images: TrainingImages,
    objective: Objective,
    plan: TrainPlan,
    context: Context,
) -> Choice:
    """The choice of the stopped training, or a new one."""
    if context.workspace is None:
        return _decide(network, images, objective, plan, context)
    path, of = context.workspace / _FILE, digest_json([str(network), images.digest])
    found = _load_choice(path, of)
    if found is None:
        found = _decide(network, images, objective, plan, context)
        write_json(path, {"of": of, **asdict(found)})
    return found


def _load_choice(path: Path, of: str) -> Choice | None:
    record = read_json(path) if path.exists() else None
    if not isinstance(record, dict) or record.pop("of", None) != of:
        return None
    return Choice(**record)


def _decide(
    network: nn.Module,
    images: TrainingImages,
    objective: Objective,
    plan: TrainPlan,
    context: Context,
) -> Choice:
    if plan.max_minutes is None:
        return Choice(None, "all layers, since there is no time budget")
    blocks = len(body_blocks(network))
    last = blocks - round(blocks * _FROZEN)
    reason = reason_not_to_cache(images, plan)
    if reason is None and blocks < _FEWEST_BLOCKS:
        reason = f"the network has only {count(blocks, 'block')} before its head"
    if reason is not None:
        return Choice(
            None, f"all layers, since activations of a frozen part cannot be kept: {reason}"
        )
    steps = steps_in_budget(network, images, objective, plan, context)
    fits = f"about {steps:.2g} steps of all layers fit into the {plan.max_minutes:.2g} minutes left"
    if steps >= MIN_STEPS:
        return Choice(None, f"all layers, since {fits}")
    reason = _split_error(network, last, images, context)
    if reason is not None:
        return Choice(None, f"all layers, though only {fits}: {reason}")
    return Choice(last, f"the last {last} of {blocks} blocks, since only {fits}")


def _split_error(
    network: nn.Module, last: int, images: TrainingImages, context: Context
) -> str | None:
    """Why the network cannot be split before the last blocks; None if it can."""
    ours = copy.deepcopy(network)
    wanted = FineTune(trainable="last", trainable_blocks=last)
    freeze_layers(ours, wanted, images, context)
    try:
        split_at_frozen(ours, images, 1, context)
    except CannotSplitError as error:
        return str(error)
    return None


def steps_in_budget(
    network: nn.Module,
    images: TrainingImages,
    objective: Objective,
    plan: TrainPlan,
    context: Context,
) -> float:
    """Estimates how many training steps of all layers fit into the plan's minutes.

    Args:
        network: Unchanged.
        images: The images.
        objective: The loss.
        plan: The plan.
        context: Seed.

    Returns:
        The number of steps, from the fastest of a few steps at a learning rate of zero; the time
        of validation is subtracted.
    """
    assert plan.max_minutes is not None
    seconds = 60 * plan.max_minutes
    began = time.monotonic()
    fastest, tried = math.inf, 0
    # Dropout uses the global generator, whose state belongs to the training.
    with torch.random.fork_rng():
        trial_steps = TrialSteps(copy.deepcopy(network), images, objective, plan, context)
        while tried < 2 or (
            tried < _TIMED_STEPS and time.monotonic() - began < _TIMING_SHARE * seconds
        ):
            before = time.monotonic()
            trial_steps.loss(0.0)
            fastest, tried = min(fastest, time.monotonic() - before), tried + 1
    # The backward pass takes twice as long as the forward pass, and validation has only that.
    val = len(images.dataset.rows("val")) / len(images.rows) / 3
    return max(0.0, seconds - (time.monotonic() - began)) / (fastest * (1 + val))
