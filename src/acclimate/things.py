"""The things that flow between stages, on disk and on their way."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acclimate.stages import find


@dataclass(frozen=True)
class Slot:
    """A thing on its way between stages: known by its digest, loaded when it is needed.

    Attributes:
        digest: Stands for its content.
        load: Gives the thing.
        folder: Where the stage that made it left it; None for what was read.
    """

    digest: str
    load: Callable[[], Any]
    folder: Path | None = None


@dataclass(frozen=True)
class Thing:
    """How one kind of thing is kept in a stage's folder.

    Attributes:
        save: (thing, folder) to nothing.
        load: Folder to thing.
    """

    save: Callable[[Any, Path], None]
    load: Callable[[Path], Any]


def _kept(dotted: str, name: str) -> Thing:
    """A kind whose class saves to and loads from one path."""
    return Thing(
        save=lambda thing, folder: thing.save(folder / name),
        load=lambda folder: find(dotted).load(folder / name),
    )


THINGS: dict[str, Thing] = {
    "dataset": _kept("acclimate.data.dataset:Dataset", "dataset.parquet"),
    "policy": _kept("acclimate.augmentation.policy:Policy", "policy.json"),
    "classifier": _kept("acclimate.models.classifier:Classifier", "model"),
    "evaluation": _kept("acclimate.evaluation.evaluate:Evaluation", "evaluation"),
    "comparison": _kept("acclimate.evaluation.comparison:Comparison", "comparison.json"),
}
"""The five things that flow, and the comparison they end in."""
