"""Non-finite losses and gradients: which steps are skipped, and when the training ends."""

from collections.abc import Sequence
from dataclasses import dataclass

from acclimate.errors import DataError, RecipeError, count
from acclimate.training.curve import Epoch
from acclimate.training.engine.checkpoint import EpochProgress, Incidents
from acclimate.training.plan import TrainPlan


class DivergedError(RecipeError):
    """The training diverged; another learning rate may help."""


MAX_CONSECUTIVE = 3
"""A single bad batch is harmless; broken weights make every batch bad."""

_WHILE_SCALING = 20
"""A loss scaler starts at 65,536 and is halved at each step that it skips."""

_SHARE = 0.1
"""Largest tolerated fraction of skipped steps in an epoch."""

_SHOWN = 5

_FAR = 4.0
"""A val loss above this multiple of the start's, plus 1, points to a learning rate that is too
high: at a suitable one even an untrained network hardly gets there."""


@dataclass(frozen=True)
class Fault:
    """Why a step was skipped.

    Attributes:
        what: Name of the value that is not finite.
        value: NaN or infinite.
        rows: Rows of the images with non-finite pixels, if they are the reason.
    """

    what: str
    value: float
    rows: tuple[int, ...] = ()

    def __str__(self) -> str:
        """The fault as a clause."""
        if not self.rows:
            return f"{self.what} is {self.value}"
        shown = ", ".join(map(str, self.rows[:_SHOWN])) + (", …" if len(self.rows) > _SHOWN else "")
        held = "holds" if len(self.rows) == 1 else "hold"
        return f"{count(len(self.rows), 'image')} ({shown}) {held} non-finite pixels"


def check_divergence(
    fault: Fault,
    done: EpochProgress,
    incidents: Incidents,
    plan: TrainPlan,
    *,
    steps: int,
    when: str,
) -> None:
    """Ends a training in which too many steps were skipped.

    Args:
        fault: Why the last step was skipped.
        done: Counts the skipped steps of this epoch.
        incidents: Counts the steps skipped in a row.
        plan: Learning rate and precision.
        steps: Steps per epoch.
        when: Name of the step.

    Raises:
        RecipeError: The training diverges.
        DataError: Images have non-finite pixels.
    """
    most = _WHILE_SCALING if plan.precision == "16-mixed" else MAX_CONSECUTIVE
    if incidents.consecutive < most and done.skipped <= max(most, _SHARE * steps):
        return
    if fault.rows:
        raise DataError(
            f"{fault}, at {when}; {count(done.skipped, 'step')} of this epoch skipped.",
            where="images",
            hint="Check where they come from: a standard deviation of 0, or a damaged file.",
        )
    raise diverged(fault.what, fault.value, when, plan)


def diverged(what: str, value: float, when: str, plan: TrainPlan) -> DivergedError:
    """The error of a training that diverges.

    Args:
        what: Name of the value that is not finite.
        value: NaN or infinite.
        when: Name of the step.
        plan: Learning rate and precision.

    Returns:
        The error to raise.
    """
    hint = f"Lower learning_rate, which is {plan.learning_rate:g}."
    if plan.precision == "16-mixed":
        hint += " Or set precision to bf16-mixed or 32-true: float16 overflows above 65,504."
    return DivergedError(
        f"{what} is {value} at {when}: the training diverges.", where="learning_rate", hint=hint
    )


def start_kept_notes(curve: Sequence[Epoch], rate: float, *, kept: bool) -> tuple[str, ...]:
    """Sentences for the log and the card if the start was kept.

    Args:
        curve: One entry per epoch, the start first.
        rate: Peak learning rate.
        kept: Whether the start was kept.

    Returns:
        The sentences; none if another epoch was kept.
    """
    if not kept or len(curve) < 2:
        return ()
    start, highest = curve[0].val_loss, max(line.val_loss for line in curve[1:])
    note = "No epoch was better on val than the start, so the start was kept."
    if not highest > _FAR * start + 1:
        return (note,)
    return (
        note,
        f"Val loss rose from {start:.3g} to {highest:,.3g}: the learning rate {rate:.2g} is "
        "probably too high. Lower learning_rate, or set it to find.",
    )
