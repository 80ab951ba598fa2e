"""The things that flow between stages, on disk and on their way."""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from acclimate.pipeline.stages import find

_LIBRARIES = (
    "acclimate",
    "torch",
    "torchvision",
    "timm",
    "onnxruntime",
    "torch-pruning",
    "numpy",
    "pillow",
)


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


def machine(device: str) -> dict[str, str]:
    """What the numbers were made with: recorded, never part of a key."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "device": str(find("acclimate.models.device:choose_device")(device)),
        **{name: installed(name) for name in _LIBRARIES},
    }
