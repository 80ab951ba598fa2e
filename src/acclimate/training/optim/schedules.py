"""Learning-rate schedules, as factors on the peak learning rate."""

import math
from collections.abc import Callable

import torch

_LOW, _HIGH = 0.85, 0.95
"""Range of the momentum under one_cycle (Smith 2018, arXiv 1803.09820)."""


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
        step: Number of the step from 0; milliseconds if the training has a time limit.
        steps: Length of the whole training, in the same unit.
        warmup: Fraction of the steps in which the learning rate rises, in [0, 1).

    Returns:
        In (0, 1].
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return SCHEDULES[schedule]((step - rising) / max(1, steps - rising))


def set_rates(optimizer: torch.optim.Optimizer, schedule: str, factor: float) -> None:
    """Sets the learning rates of an optimizer and, under one_cycle, its momentum.

    Under one_cycle the momentum falls while the learning rate rises, and rises while it falls: 0.95
    at a learning rate of zero, 0.85 at the peak. This is the momentum of SGD and the first beta of
    Adam optimizers and Lion; Muon keeps its own momentum for matrices.

    Args:
        optimizer: Changed in place; its groups have `peak` learning rates.
        schedule: A name in `SCHEDULES`.
        factor: Factor on the peak learning rates, in [0, 1].
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
