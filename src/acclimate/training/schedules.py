"""How the learning rate goes, as a factor of its peak."""

import math
from collections.abc import Callable


def cosine(progress: float) -> float:
    """Half a cosine, from 1 to 0 (Loshchilov and Hutter 2016, arXiv 1608.03983)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def constant(progress: float) -> float:
    """1 throughout."""
    return 1.0


def factor(schedule: str, step: int, steps: int, warmup: float) -> float:
    """The factor at a step: linear warm-up, then the schedule.

    Args:
        schedule: A name in `SCHEDULES`.
        step: From 0.
        steps: Of the whole training.
        warmup: Part of the steps in which the rate rises, in [0, 1).

    Returns:
        In (0, 1].
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return SCHEDULES[schedule]((step - rising) / max(1, steps - rising))


SCHEDULES: dict[str, Callable[[float], float]] = {"cosine": cosine, "constant": constant}
"""Progress after warm-up, in [0, 1), to a factor."""
