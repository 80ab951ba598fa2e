"""What must be the same for a training that was stopped to go on with the same numbers."""

from collections.abc import Mapping
from typing import Any

import torch

from acclimate.files import digest_json
from acclimate.models.classifier import plain
from acclimate.training.plan import TrainPlan
from acclimate.training.settings import Training

_OF_THE_MACHINE = (
    "device", "max_minutes", "accumulation_steps", "augment_on_device", "find_rate", "reasons",
)  # fmt: skip
"""Of a plan: where and how long, which a training may take up otherwise than it was left."""


def stage_settings(settings: Training) -> dict[str, object]:
    """The settings of a stage that its plan does not hold: loss, smoothing and the like.

    Args:
        settings: Of a stage that trains.

    Returns:
        Name to plain value.
    """
    return {n: v for n, v in plain(settings).items() if n not in Training.model_fields}


def resume_fingerprint(
    plan: TrainPlan,
    optimizer: torch.optim.Optimizer,
    seed: int,
    data: str,
    stage: Mapping[str, object],
) -> dict[str, object]:
    """All that the weights after each step depend on, but for those before the first one.

    Args:
        plan: Numbers.
        optimizer: The optimizer, before its first step.
        seed: Of the training.
        data: Digest of what it is fed with.
        stage: What the stage adds.

    Returns:
        Name to value, made of what a checkpoint can hold.
    """
    known = {name: v for name, v in plan.as_record().items() if name not in _OF_THE_MACHINE}
    if "precision" in plan.reasons:
        del known["precision"]  # chosen by the device
    named = {"optimizer": type(optimizer).__qualname__, "seed": seed, "data": data}
    return {**known, **named, "optimizer options": _options(optimizer), **stage}


def _options(optimizer: torch.optim.Optimizer) -> str:
    """Digest of an optimizer's options in each of its groups; rates move, and are in the plan."""

    def simple(group: Mapping[str, Any]) -> dict[str, str]:
        return {n: repr(v) for n, v in sorted(group.items()) if _is_plain(v) and n != "lr"}

    return digest_json([simple(group) for group in optimizer.param_groups])


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, tuple))
