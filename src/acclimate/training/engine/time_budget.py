"""How far a training is, by its steps or, with a time limit, by the clock."""

import math
import time
from dataclasses import replace

from lightning_fabric import Fabric

from acclimate.training.engine.distributed import summed
from acclimate.training.optim.schedules import factor
from acclimate.training.plan import TrainPlan

_MARGIN = 1.3
"""Times the duration of the last validation is reserved for the next one, as durations vary."""
_FADING = 0.9
"""Decay per step of the longest step time, because the first steps are often slow."""


class TimeBudget:
    """The learning-rate factor of each step, and when to end.

    With a time limit the schedule follows the elapsed time, validation included. It needs no
    estimate of the machine's speed, and reaches its end even if the machine slows down.

    Args:
        plan: Resolved settings.
        steps: Batches per epoch.
        fabric: The processes; the mean of their clocks counts for all.
        spent: Seconds that the training took before it was resumed.
    """

    def __init__(self, plan: TrainPlan, steps: int, fabric: Fabric, spent: float) -> None:
        self.plan, self.steps, self.fabric = plan, steps, fabric
        self.began = time.monotonic() - spent
        self._reserve = self._a_step = 0.0
        self._last_step = math.nan

    @property
    def seconds(self) -> float:
        """Seconds since the training began, on the clock of this process."""
        return time.monotonic() - self.began

    def factor(self, step: int) -> float:
        """Factor on the peak learning rates at a step, counted from the first of the training."""
        plan = self.plan
        if plan.max_minutes is None:
            return factor(plan.schedule, step, self.steps * plan.epochs, plan.warmup)
        now = self.seconds
        if step % self.steps:  # the time between two epochs is not that of a step
            self._a_step = max(_FADING * self._a_step, now - self._last_step)
        self._last_step = now
        usable = max(1, round(1000 * self._usable()))
        gone = min(round(1000 * self._shared(now)), usable - 1)
        return factor(plan.schedule, gone, usable, plan.warmup)

    def note_validation(self, seconds: float) -> None:
        """Records the duration of a validation, so that time is reserved for the next one."""
        self._reserve = self._shared(_MARGIN * seconds)

    def over(self) -> bool:
        """Whether no time is left for another step and a validation."""
        if self.plan.max_minutes is None:
            return False
        return self._shared(self.seconds + self._a_step) >= self._usable()

    def patience(self, epoch: int) -> int:
        """Epochs without improvement after which to stop, given the epochs done so far."""
        if self.plan.patience:
            return self.plan.patience
        gone = max(self._shared(self.seconds), 1e-3)
        return max(5, math.ceil(epoch * max(1.0, self._budget() / gone) / 2))

    def done(self, step: int) -> float:
        """Fraction of the training that is done after a step, in (0, 1]."""
        if self.plan.max_minutes is None:
            return (step + 1) / (self.steps * self.plan.epochs)
        return min(1.0, self._shared(self.seconds) / max(1e-3, self._usable()))

    def describe(self, epoch: int, mark: str = "/") -> str:
        """The number of an epoch, and the end of the training."""
        if self.plan.max_minutes is None:
            return f"epoch {epoch}{mark}{self.plan.epochs}"
        return f"epoch {epoch} ({self.seconds / 60:.3g} of {self.plan.max_minutes:.3g} min)"

    def _budget(self) -> float:
        assert self.plan.max_minutes is not None
        return 60 * self.plan.max_minutes

    def _usable(self) -> float:
        return self._budget() - self._reserve

    def _shared(self, seconds: float) -> float:
        """The mean over the processes, so that all make the same decision."""
        return summed(self.fabric, [seconds])[0] / int(self.fabric.world_size)


def with_time_left(plan: TrainPlan, began: float) -> TrainPlan:
    """The plan with the time that is left.

    Args:
        plan: Plan of a training stage.
        began: When the stage began, on the monotonic clock.

    Returns:
        The plan; unchanged if it has no time limit.
    """
    if plan.max_minutes is None:
        return plan
    return replace(plan, max_minutes=max(0.0, plan.max_minutes - (time.monotonic() - began) / 60))
