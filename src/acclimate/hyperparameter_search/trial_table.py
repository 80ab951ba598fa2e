"""The trials of a search as a CSV table, and one trial as a line of text."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from acclimate.errors import count
from acclimate.hyperparameter_search.study import FinishedTrial

_FACTS = ("number", "outcome", "val_accuracy", "val_loss", "epochs", "seconds")


def to_csv(phases: Mapping[str, Sequence[FinishedTrial]], names: Iterable[str]) -> str:
    """All finished trials, one per row.

    Args:
        phases: Name of each phase and its trials.
        names: Names of the searched settings.

    Returns:
        CSV.
    """
    settings = list(names)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["phase", *_FACTS, *settings, "note"])
    for phase, trials in phases.items():
        for trial in trials:
            facts = [_cell(getattr(trial, name)) for name in _FACTS]
            values = [_cell(trial.values.get(name, "")) for name in settings]
            writer.writerow([phase, *facts, *values, trial.note])
    return buffer.getvalue()


def format_values(values: Mapping[str, Any]) -> str:
    """The values of a trial as text."""
    return ", ".join(
        f"{name} {value:.2g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )


def describe_trial(finished: FinishedTrial) -> str:
    """How a trial ended, as text."""
    known = not math.isnan(finished.val_accuracy)
    words = [f"val accuracy {finished.val_accuracy:.3f}"] if known else []
    if finished.outcome != "done":
        words.insert(0, f"{finished.outcome} after {count(finished.epochs, 'epoch')}")
    return ", ".join([*words, f"{finished.seconds:.0f} s"]) + f"; {format_values(finished.values)}"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return str(value)
