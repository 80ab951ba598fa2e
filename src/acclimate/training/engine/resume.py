"""The fingerprint of a training: what must be equal to resume it with the same results."""

from collections.abc import Mapping
from typing import Any

import torch

from acclimate.files import digest_json
from acclimate.models.classifier import plain
from acclimate.training.plan import TrainPlan
from acclimate.training.settings import Training

_MAY_DIFFER = (
    "device", "max_minutes", "accumulation_steps", "augment_on_device", "find_rate", "reasons",
)  # fmt: skip
"""Fields of a plan that may differ when a training is resumed: where it runs, and how long."""


def stage_settings(settings: Training) -> dict[str, object]:
    """The settings of a stage that are not in its plan, such as the loss and label smoothing.

    Args:
        settings: Settings of a training stage.

    Returns:
        Values by name.
    """
    return {n: v for n, v in plain(settings).items() if n not in Training.model_fields}


def resume_fingerprint(
    plan: TrainPlan,
    optimizer: torch.optim.Optimizer,
    seed: int,
    data: str,
    stage: Mapping[str, object],
) -> dict[str, object]:
    """Everything that the weights depend on, except the weights before the first step.

    Args:
        plan: Resolved settings.
        optimizer: The optimizer, before its first step.
        seed: Random seed of the training.
        data: Digest of the batch source.
        stage: Values that the stage adds.

    Returns:
        Values by name, of types that a checkpoint can store.
    """
    known = {name: v for name, v in plan.as_record().items() if name not in _MAY_DIFFER}
    if "precision" in plan.reasons:
        del known["precision"]  # depends on the device
    named = {"optimizer": type(optimizer).__qualname__, "seed": seed, "data": data}
    return {**known, **named, "optimizer options": _options(optimizer), **stage}


def _options(optimizer: torch.optim.Optimizer) -> str:
    """Digest of the options of an optimizer; learning rates change, and are in the plan."""

    def simple(group: Mapping[str, Any]) -> dict[str, str]:
        return {n: repr(v) for n, v in sorted(group.items()) if _is_plain(v) and n != "lr"}

    return digest_json([simple(group) for group in optimizer.param_groups])


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, tuple))
