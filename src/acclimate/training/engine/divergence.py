"""Numbers that ran away: which steps are skipped, and when the training stops."""

from collections.abc import Sequence
from dataclasses import dataclass

from acclimate.errors import DataError, RecipeError, count
from acclimate.training.curve import Epoch
from acclimate.training.engine.checkpoint import EpochProgress, Incidents
from acclimate.training.plan import TrainPlan


class DivergedError(RecipeError):
    """Numbers of a training ran away: another rate may mend it."""


MAX_CONSECUTIVE = 3
"""One bad batch happens; weights that are spoilt make every batch bad."""

_WHILE_SCALING = 20
"""A loss scaler begins at 65,536 and halves itself at each step that it skips."""

_SHARE = 0.1
"""Of an epoch's steps: more than that is no accident."""

_SHOWN = 5

_FAR = 4.0
"""Times the start's val loss, and one more: what a network that knew nothing would hardly lose by
learning at a rate that suits it."""


@dataclass(frozen=True)
class Fault:
    """Why a step was skipped.

    Attributes:
        what: The number that is none.
        value: NaN or infinite.
        rows: Images whose pixels are no numbers, if that is why.
    """

    what: str
    value: float
    rows: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Half a sentence."""
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
    """Ends a training of which too many steps were skipped.

    Args:
        fault: Of the last one.
        done: Counts the skipped steps of this epoch.
        incidents: Counts those in a row.
        plan: Holds the rate and the precision.
        steps: Of an epoch.
        when: Names the step.

    Raises:
        RecipeError: The training diverges.
        DataError: Its images hold pixels that are no numbers.
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
    """What is said of a training whose numbers ran away.

    Args:
        what: The number.
        value: No longer finite.
        when: Where in the training.
        plan: Holds the rate.

    Returns:
        The error, to be raised.
    """
    hint = f"Lower learning_rate, which is {plan.learning_rate:g}."
    if plan.precision == "16-mixed":
        hint += " Or set precision to bf16-mixed or 32-true: float16 overflows above 65,504."
    return DivergedError(
        f"{what} is {value} at {when}: the training diverges.", where="learning_rate", hint=hint
    )


def start_kept_notes(curve: Sequence[Epoch], rate: float, *, kept: bool) -> tuple[str, ...]:
    """What is to be said where a training came to nothing though its numbers stayed finite.

    Args:
        curve: The start first.
        rate: Peak rate.
        kept: Whether the start is what came of it.

    Returns:
        Sentences; none where all is well.
    """
    if not kept or len(curve) < 2:
        return ()
    start, highest = curve[0].val_loss, max(line.val_loss for line in curve[1:])
    told = "No epoch was better on val than the start, so the start was kept."
    if not highest > _FAR * start + 1:
        return (told,)
    return (
        told,
        f"Val loss rose from {start:.3g} to {highest:,.3g}: the learning rate {rate:.2g} is "
        "probably too high. Lower learning_rate, or set it to find.",
    )
