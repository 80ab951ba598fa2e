"""Writes the training curves of a classifier as a CSV file."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from acclimate.files import write_atomic

COLUMNS = (
    "step", "stage", "epoch", "train_loss", "val_loss", "val_accuracy", "learning_rate", "seconds",
    "val_loss_error",
)  # fmt: skip
"""`step` numbers the steps of the card from 1, because a stage may have been run twice."""


class StepWithCurve(Protocol):
    """A step of a card."""

    @property
    def stage(self) -> str:
        """The name of the stage."""

    @property
    def curve(self) -> tuple[Mapping[str, float | None], ...]:
        """Figures per epoch, starting before the first; empty if nothing was trained."""


def write_curves(steps: Iterable[StepWithCurve], path: Path) -> None:
    """Writes one line per epoch, or no file if nothing was trained.

    Args:
        steps: The steps of a card, oldest first.
        path: The CSV file.

    Raises:
        OutputError: The file cannot be written.
    """
    lines = [
        {**epoch, "step": number, "stage": step.stage, "epoch": int(epoch["epoch"] or 0)}
        for number, step in enumerate(steps, 1)
        for epoch in step.curve
    ]
    if not lines:
        return
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_atomic(path, text.getvalue())
