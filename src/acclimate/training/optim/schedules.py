"""How the learning rate goes, as a factor of its peak."""

import math
from collections.abc import Callable

import torch

_LOW, _HIGH = 0.85, 0.95
"""Between which momentum goes under one_cycle (Smith 2018, arXiv 1803.09820)."""


def cosine(progress: float) -> float:
    """Half a cosine, from 1 to 0 (Loshchilov and Hutter 2016, arXiv 1608.03983)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def linear(progress: float) -> float:
    """A straight line from 1 to 0."""
    return 1 - progress


def constant(progress: float) -> float:
    """1 throughout."""
    return 1.0


def factor(schedule: str, step: int, steps: int, warmup: float) -> float:
    """The factor at a step: linear warm-up, then the schedule.

    Args:
        schedule: A name in `SCHEDULES`.
        step: From 0; where time is what ends the training, in milliseconds.
        steps: Of the whole training, in the same unit.
        warmup: Part of the steps in which the rate rises, in [0, 1).

    Returns:
        In (0, 1].
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return SCHEDULES[schedule]((step - rising) / max(1, steps - rising))


def set_rates(optimizer: torch.optim.Optimizer, schedule: str, factor: float) -> None:
    """Gives an optimizer its rates and, under one_cycle, its momentum.

    Under one_cycle momentum falls while the rate rises and rises while it falls, so that the two
    together stay bounded: 0.95 at a rate of zero, 0.85 at the peak. That is the momentum of SGD
    and the first beta of the Adam family and Lion; Muon keeps its own for matrices.

    Args:
        optimizer: Its groups hold their `peak` rates; changed in place.
        schedule: A name in `SCHEDULES`.
        factor: Of the peak rates, in [0, 1].
    """
    momentum = _HIGH - (_HIGH - _LOW) * factor
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
        if schedule != "one_cycle":
            continue
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        elif "momentum" in group:
            group["momentum"] = momentum


SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": cosine,
    "linear": linear,
    "one_cycle": cosine,
    "constant": constant,
}
"""Progress after warm-up, in [0, 1), to a factor."""
