"""Whether all layers learn or a first part is frozen, where the settings leave that to us."""

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
from acclimate.fine_tuning.trainable_layers import Question, body, freeze_layers
from acclimate.models.split_network import CannotSplitError
from acclimate.training.batches.frozen_prefix import reason_not_to_cache, split_at_frozen
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.engine.distributed import launched
from acclimate.training.engine.step import Objective
from acclimate.training.lr_finder import TrialSteps
from acclimate.training.plan import TrainPlan

_FILE = "trained.json"
_FEWEST_BLOCKS = 6
"""A network of fewer has no first third worth the name."""
_FROZEN = 1 / 3
"""Of the blocks: those with the largest activations. EfficientNet-Lite0's take more than half of a
step: 2.0 of 3.0 s at 224 px and batch 32 on a core, and kept activations are 63 kB an image."""
ENOUGH = 50
"""Steps of all layers from which on they are worth their time. Four epochs of all layers against
eight after a frozen third, 400 images, 64 px: 0.636 and 0.679 (CIFAR-10), 0.939 and 0.951 (USPS),
0.393 and 0.407 (MNIST-M), the same on PACS' photos and flowers. At 100 steps, eight epochs against
16: 0.446 and 0.427 (MNIST-M)."""
_STEPS = 4
"""Timed; the first ones are slow."""
_SHARE = 0.05
"""Of the time there is, that timing steps may take."""


@dataclass(frozen=True)
class Choice:
    """Which weights learn, and why.

    Attributes:
        last: How many of the last blocks learn beside the head; None where all layers do.
        reason: In words.
    """

    last: int | None
    reason: str

    def applied(self, settings: FineTune) -> FineTune:
        """The settings with the choice in the place of "auto"."""
        if self.last is None:
            return settings.model_copy(update={"trainable": "all"})
        return settings.model_copy(update={"trainable": "last", "trainable_blocks": self.last})


def choose_trained(
    network: nn.Module,
    views: TrainingImages,
    objective: Objective,
    plan: TrainPlan,
    context: Context,
) -> Choice:
    """All layers, or a frozen first third whose activations are kept where time is too short.

    Without a budget of time all layers learn. With one, a few steps are timed, and where fewer than
    `ENOUGH` would fit with all layers learning, the first third of the blocks is frozen, if its
    activations can be kept: at 224 px more than twice as many steps fit then.

    What was decided is written into the workspace: a training that was stopped goes on with it.

    With time enough it is all layers, whatever the images: neither relative gradients (Lee et al.
    2022, arXiv 2210.11466) nor how far the first layers' activations are from their batch-norm
    statistics tell where freezing costs accuracy. MNIST-M, which loses 4 points at equal epochs,
    looks to both like photos, which lose nothing. A fitted head that is right on three quarters of
    val does tell it at home (+0.2 points over four trainings), but not in another domain (-1.2).

    Args:
        network: With a fitted head; unchanged.
        views: The images.
        objective: What is made small.
        plan: Numbers; its minutes are those that are left.
        context: Seed, workspace, how much may be kept.

    Returns:
        The choice, the same in all processes.
    """
    fabric = launched(plan)
    choice = _of_first(network, views, objective, plan, context) if fabric.is_global_zero else None
    if fabric.world_size > 1:
        choice = fabric.broadcast(choice)
    assert choice is not None
    return choice


def _of_first(
    network: nn.Module,
    views: TrainingImages,
    objective: Objective,
    plan: TrainPlan,
    context: Context,
) -> Choice:
    """What was decided before, or what the first process decides now."""
    if context.workspace is None:
        return _decided(network, views, objective, plan, context)
    path, of = context.workspace / _FILE, digest_json([str(network), views.digest])
    found = _found(path, of)
    if found is None:
        found = _decided(network, views, objective, plan, context)
        write_json(path, {"of": of, **asdict(found)})
    return found


def _found(path: Path, of: str) -> Choice | None:
    record = read_json(path) if path.exists() else None
    if not isinstance(record, dict) or record.pop("of", None) != of:
        return None
    return Choice(**record)


def _decided(
    network: nn.Module,
    views: TrainingImages,
    objective: Objective,
    plan: TrainPlan,
    context: Context,
) -> Choice:
    if plan.max_minutes is None:
        return Choice(None, "all layers, since no minutes bound the time")
    blocks = len(body(network))
    last = blocks - round(blocks * _FROZEN)
    reason = reason_not_to_cache(views, plan)
    if reason is None and blocks < _FEWEST_BLOCKS:
        reason = f"the network has only {count(blocks, 'block')} beside its head"
    if reason is not None:
        return Choice(None, f"all layers, since nothing frozen would be kept: {reason}")
    steps = steps_in_budget(network, views, objective, plan, context)
    told = f"about {steps:.2g} steps of all layers fit the {plan.max_minutes:.2g} minutes left"
    if steps >= ENOUGH:
        return Choice(None, f"all layers, since {told}")
    reason = _indivisible(network, last, views, context)
    if reason is not None:
        return Choice(None, f"all layers, though only {told}: {reason}")
    return Choice(last, f"the last {last} of {blocks} blocks, since only {told}")


def _indivisible(
    network: nn.Module, last: int, views: TrainingImages, context: Context
) -> str | None:
    """Why the activations before the last blocks cannot be kept; None where they can."""
    ours = copy.deepcopy(network)
    wanted = FineTune(trainable="last", trainable_blocks=last)
    freeze_layers(ours, Question(wanted, views, context))
    try:
        split_at_frozen(ours, views, 1, context)
    except CannotSplitError as error:
        return str(error)
    return None


def steps_in_budget(
    network: nn.Module,
    views: TrainingImages,
    objective: Objective,
    plan: TrainPlan,
    context: Context,
) -> float:
    """How many steps with all layers learning fit the plan's minutes, val's time set aside.

    Args:
        network: Unchanged.
        views: The images.
        objective: What is made small.
        plan: Numbers.
        context: Seed.

    Returns:
        By the fastest of a few steps at a rate of zero.
    """
    assert plan.max_minutes is not None
    seconds = 60 * plan.max_minutes
    began = time.monotonic()
    fastest, tried = math.inf, 0
    # Dropout draws from the global generator, whose numbers belong to the training.
    with torch.random.fork_rng():
        tryout = TrialSteps(copy.deepcopy(network), views, objective, plan, context)
        while tried < 2 or (tried < _STEPS and time.monotonic() - began < _SHARE * seconds):
            before = time.monotonic()
            tryout.loss(0.0)
            fastest, tried = min(fastest, time.monotonic() - before), tried + 1
    # Backward takes twice as long as forward, and val only has that.
    val = len(views.dataset.rows("val")) / len(views.rows) / 3
    return max(0.0, seconds - (time.monotonic() - began)) / (fastest * (1 + val))
