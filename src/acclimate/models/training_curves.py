"""The training curves of a classifier, as CSV and drawn."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from acclimate.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = (
    "step", "stage", "epoch", "train_loss", "val_loss", "val_accuracy", "learning_rate", "seconds",
    "val_loss_error",
)  # fmt: skip
"""`step` numbers the steps of the card from 1, because a stage may have been run twice."""


_COLORS = {"train_loss": "C0", "val_loss": "C1", "val_accuracy": "C2"}


class StepWithCurve(Protocol):
    """A step of a card."""

    @property
    def stage(self) -> str:
        """The name of the stage."""

    @property
    def curve(self) -> tuple[Mapping[str, float | None], ...]:
        """Figures per epoch, starting before the first; empty if nothing was trained."""


def curves_csv(steps: Iterable[StepWithCurve]) -> str | None:
    """The training curves as CSV, one line per epoch.

    Args:
        steps: The steps of a card, oldest first.

    Returns:
        The content of the file; None if nothing was trained.
    """
    lines = [
        {**epoch, "step": number, "stage": step.stage, "epoch": int(epoch["epoch"] or 0)}
        for number, step in enumerate(steps, 1)
        for epoch in step.curve
    ]
    if not lines:
        return None
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def plot_curve(curve: Sequence[Mapping[str, float | None]]) -> "Axes":
    """Draws losses and accuracy by epoch.

    Args:
        curve: One mapping for each epoch, with `epoch`, `train_loss`, `val_loss`, `val_accuracy`.

    Returns:
        The axes of the losses, whose figure a notebook shows.

    Raises:
        DataError: There is no curve.
    """
    if not curve:
        raise DataError("there is no training curve: nothing was trained.")
    from matplotlib import pyplot

    axes: Axes = pyplot.subplots()[1]
    epochs = [float(line["epoch"] or 0) for line in curve]
    for name in ("train_loss", "val_loss", "val_accuracy"):
        values = [line.get(name) for line in curve]
        drawn = axes if name.endswith("loss") else axes.twinx()
        drawn.plot(epochs, [math.nan if v is None else v for v in values], "o-", label=name,
                   color=_COLORS[name])  # fmt: skip
        drawn.set_ylabel("loss" if name.endswith("loss") else "val accuracy")
    axes.set_xlabel("epoch")
    axes.figure.legend()
    return axes
