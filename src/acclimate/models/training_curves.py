"""The curves of a classifier's trainings as a table that any program reads."""

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
"""`step` counts what was done to the classifier, from 1: it may be fine-tuned twice."""


class StepWithCurve(Protocol):
    """A step of a card."""

    @property
    def stage(self) -> str:
        """Its name."""

    @property
    def curve(self) -> tuple[Mapping[str, float | None], ...]:
        """Figures an epoch, the start first; empty where nothing was trained."""


def write_curves(steps: Iterable[StepWithCurve], path: Path) -> None:
    """Writes a line an epoch; what is unknown is empty. Without a training, nothing.

    Args:
        steps: Of a card, oldest first.
        path: The CSV file.

    Raises:
        OutputError: The place cannot be written.
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
