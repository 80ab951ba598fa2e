"""The stages as rows: a row makes a command, a section of the recipe and a step of the pipeline.

This module is read when the command starts, so it imports nothing heavy: functions and settings
are named, and found when they are needed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: As a command; its section in the recipe has underscores for dashes.
        call: "module:function": things, then settings, in; a thing out.
        settings: "module:Class".
        reads: The kinds of things it takes, in order.
        writes: The kind of thing it makes.
        version: Raised when equal settings would give another result.
        summary: One line for the help.
    """

    name: str
    call: str
    settings: str
    reads: tuple[str, ...]
    writes: str
    version: int
    summary: str

    @property
    def section(self) -> str:
        """Its name in a recipe."""
        return self.name.replace("-", "_")

    @property
    def function(self) -> Callable[..., Any]:
        """The stage itself; imports its room."""
        found: Callable[..., Any] = find(self.call)
        return found


def find(dotted: str) -> Any:  # noqa: ANN401 - whatever stands there
    """What "module:name" names."""
    module, name = dotted.split(":")
    return getattr(import_module(module), name)


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "clean",
            "acclimate.cleaning.clean:clean",
            "acclimate.cleaning.settings:Clean",
            ("dataset",),
            "dataset",
            4,
            "Check every image, leave out what cannot be used, split the rest.",
        ),
        Stage(
            "inspect",
            "acclimate.inspection.inspect:inspect",
            "acclimate.inspection.settings:Inspect",
            ("classifier", "dataset"),
            "dataset",
            3,
            "Flag labels that are probably wrong, and images far from all others.",
        ),
        Stage(
            "probe",
            "acclimate.features.probe:probe",
            "acclimate.features.settings:Probe",
            ("classifier", "dataset"),
            "classifier",
            2,
            "Fit a linear head on frozen features: seconds, and the floor to beat.",
        ),
        Stage(
            "augment",
            "acclimate.augmentation.auto_policy:auto_policy",
            "acclimate.augmentation.settings:Augment",
            ("classifier", "dataset"),
            "policy",
            4,
            "Find out which augmentations keep your labels true.",
        ),
        Stage(
            "fine-tune",
            "acclimate.fine_tuning.fine_tune:fine_tune",
            "acclimate.fine_tuning.settings:FineTune",
            ("classifier", "dataset", "policy"),
            "classifier",
            6,
            "Train all layers on your images.",
        ),
        Stage(
            "distill",
            "acclimate.distillation.distill:distill",
            "acclimate.distillation.settings:Distill",
            ("classifier", "dataset", "policy"),
            "classifier",
            6,
            "Teach a smaller network what a larger one learnt.",
        ),
        Stage(
            "prune",
            "acclimate.compression.prune:prune",
            "acclimate.compression.settings:Prune",
            ("classifier", "dataset", "policy"),
            "classifier",
            7,
            "Take out channels and let the rest recover.",
        ),
        Stage(
            "quantize",
            "acclimate.compression.quantize:quantize",
            "acclimate.compression.settings:Quantize",
            ("classifier", "dataset", "policy"),
            "classifier",
            2,
            "Turn an exported model into 8-bit integers.",
        ),
        Stage(
            "export",
            "acclimate.models.onnx.export:export",
            "acclimate.models.settings:Export",
            ("classifier", "dataset"),
            "classifier",
            1,
            "Write one ONNX file and check it against PyTorch.",
        ),
        Stage(
            "evaluate",
            "acclimate.evaluation.evaluate:evaluate",
            "acclimate.evaluation.settings:Evaluate",
            ("classifier", "dataset"),
            "evaluation",
            1,
            "Measure accuracy, calibration, latency and size, with intervals.",
        ),
        Stage(
            "compare",
            "acclimate.evaluation.comparison:compare",
            "acclimate.evaluation.settings:Compare",
            ("evaluation", "evaluation"),
            "comparison",
            1,
            "Set two evaluations side by side: better, as good, or worse?",
        ),
    )
}
