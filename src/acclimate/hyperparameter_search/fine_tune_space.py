"""The search space of fine-tuning."""

from typing import Any

from acclimate.fine_tuning.settings import FineTune
from acclimate.hyperparameter_search.settings import Search
from acclimate.hyperparameter_search.space import Between, OneOf, Range, Space
from acclimate.training.plan import TrainPlan

ON_FEATURES = ("head", "label_smoothing", "dropout")
"""Settings that can be compared on cached features, without the backbone."""

_WIDER = 10.0
"""Rates ten times as high mostly destroy a fitted head; rates ten times as low hardly learn."""


def space(
    search: Search, settings: FineTune, plan: TrainPlan, *, mixup: float, head: str | None
) -> Space:
    """Builds the search space.

    A setting that was given keeps its value; "auto" counts as not given.

    Args:
        search: The ranges.
        settings: Settings of fine-tuning, which know which of them were given.
        plan: Plan of these settings: its numbers stand for "auto".
        mixup: MixUp of the augmentation policy.
        head: Kind of the classifier's own head if it is kept; None if a new one is fitted.

    Returns:
        The space.
    """
    given = {name for name in settings.model_fields_set if getattr(settings, name) != "auto"}
    kind = settings.head if head is None else head
    default: dict[str, Any] = {
        "learning_rate": plan.learning_rate,
        "layer_decay": plan.layer_decay,
        "weight_decay": plan.weight_decay,
        "label_smoothing": settings.label_smoothing,
        "dropout": settings.dropout,
        "head": "linear" if kind == "auto" else kind,
        "trainable": settings.trainable,
        "mixup": mixup,
    }
    ranges: dict[str, Range] = {}
    for name, usual in default.items():
        if name not in given and not (name == "head" and head is not None):
            found = _range(name, getattr(search, name), usual)
            if found is not None:
                ranges[name] = found
    fixed = {name: getattr(settings, name) for name in default if name in given}
    return Space(ranges, {name: default[name] for name in ranges}, fixed)


def _range(name: str, wanted: Any, usual: Any) -> Range | None:  # noqa: ANN401 - of any setting
    """One setting's range; None if it is not searched or has only one value."""
    if wanted is None or wanted == ():
        return None
    if wanted == "auto":
        return Between(usual / _WIDER, usual * _WIDER, log=True) if usual > 0 else None
    if name in ("head", "trainable", "mixup"):
        choices = tuple(dict.fromkeys(wanted))
        return None if choices == (usual,) else OneOf(choices)
    low, high = wanted
    log = name in ("learning_rate", "weight_decay") and low > 0
    return None if low == high == usual else Between(low, high, log)
