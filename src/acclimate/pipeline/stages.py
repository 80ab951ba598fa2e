"""The stages as rows: a row makes a command, a section of the recipe and a step of the pipeline.

This module is read when the command starts, so it imports nothing heavy: each function is
imported when it is needed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Function = Callable[..., Any]


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: As a command; its section in the recipe has underscores for dashes.
        load: Imports the stage and returns it: a function of artifacts, settings and a context
            that returns an artifact.
        reads: The kinds of artifacts it takes, in order.
        writes: The kind of artifact it makes.
        version: Raised when equal settings would give another result.
        summary: One line for the help.
        example: A command line for the help; the docs have it, perhaps with more options.
        data: What its command makes of a folder or a list: the images as they are listed (without
            importing PyTorch), a split data set, or one that is all test.
        tests_augmentations: Whether its command tests the augmentations on the data where no
            policy is given, or takes the default policy.
        searches: Whether its command takes `--trials`.
        label_scores: Whether, with these settings, the result depends on the labels' scores,
            which are no part of a data set's digest.
        switches: Settings that are true or false and have a flag of their own, with its help.
        options: Other settings that have a flag of their own: name to placeholder and help.
        keeps_candidates: Whether its command keeps the workspace, with all candidates that it
            tried, beside the result.
        report: Imports a function that turns the result into an HTML page. The command then takes
            `--report`.
        require: Imports a function of result and settings, called when the result is written. It
            raises an error if the result is not what the settings require.
    """

    name: str
    load: Callable[[], Function]
    reads: tuple[str, ...]
    writes: str
    version: int
    summary: str
    example: str
    data: Literal["listing", "split", "test"] = "split"
    tests_augmentations: bool = True
    searches: bool = False
    label_scores: Callable[[Any], bool] = lambda _: False
    switches: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    keeps_candidates: bool = False
    report: Callable[[], Function] | None = None
    require: Callable[[], Function] | None = None

    @property
    def section(self) -> str:
        """Its name in a recipe."""
        return self.name.replace("-", "_")


def _clean() -> Function:
    from acclimate.cleaning.clean import clean

    return clean


def _inspect() -> Function:
    from acclimate.inspection.inspect import inspect

    return inspect


def _data_report() -> Function:
    from acclimate.reporting.data_page import data_report

    return data_report


def _probe() -> Function:
    from acclimate.features.probe import probe

    return probe


def _augment() -> Function:
    from acclimate.augmentation.auto_policy import auto_policy

    return auto_policy


def _fine_tune() -> Function:
    from acclimate.fine_tuning.fine_tune import fine_tune

    return fine_tune


def _distill() -> Function:
    from acclimate.distillation.distill import distill

    return distill


def _prune() -> Function:
    from acclimate.compression.prune import prune

    return prune


def _quantize() -> Function:
    from acclimate.compression.quantize import quantize

    return quantize


def _compress() -> Function:
    from acclimate.compression.compress import compress

    return compress


def _check_budget() -> Function:
    from acclimate.compression.compress import check_budget

    return check_budget


def _export() -> Function:
    from acclimate.models.onnx.export import export

    return export


def _evaluate() -> Function:
    from acclimate.evaluation.evaluate import evaluate

    return evaluate


def _compare() -> Function:
    from acclimate.evaluation.comparison import compare

    return compare


def _check_required() -> Function:
    from acclimate.evaluation.comparison import check_required

    return check_required


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "clean", _clean, ("dataset",), "dataset", 8,
            "Check every image, leave out bad ones, and split the rest.",
            "acclimate clean photos/ -o photos.parquet",
            data="listing", report=_data_report,
        ),
        Stage(
            "inspect", _inspect, ("classifier", "dataset"), "dataset", 5,
            "Flag probable label errors and outliers.",
            "acclimate inspect efficientnet-lite0 photos.parquet -o inspected.parquet",
            report=_data_report,
        ),
        Stage(
            "probe", _probe, ("classifier", "dataset"), "classifier", 3,
            "Fit a linear head on frozen features, in seconds.",
            "acclimate probe efficientnet-lite0 photos.parquet -o probe.model",
        ),
        Stage(
            "augment", _augment, ("classifier", "dataset"), "policy", 6,
            "Test which augmentations keep your labels true.",
            "acclimate augment efficientnet-lite0 photos.parquet -o policy.json",
        ),
        Stage(
            "fine-tune", _fine_tune, ("classifier", "dataset", "policy"), "classifier", 9,
            "Train all layers on your images.",
            "acclimate fine-tune efficientnet-lite0 photos.parquet -o leaf.model",
            searches=True, label_scores=lambda settings: settings.label_weights,
        ),
        Stage(
            "distill", _distill, ("classifier", "dataset", "policy"), "classifier", 9,
            "Train a smaller network on the outputs of a larger one.",
            "acclimate distill leaf.model photos.parquet -o student.model",
        ),
        Stage(
            "prune", _prune, ("classifier", "dataset", "policy"), "classifier", 9,
            "Remove channels, then train the rest to recover.",
            "acclimate prune student.model photos.parquet -o small.model",
        ),
        Stage(
            "quantize", _quantize, ("classifier", "dataset", "policy"), "classifier", 3,
            "Turn an exported model into 8-bit integers.",
            "acclimate quantize student.model photos.parquet -o int8.model",
            tests_augmentations=False,  # it seldom trains: the test would take longer than the rest
        ),
        Stage(
            "compress", _compress, ("classifier", "dataset", "policy"), "classifier", 2,
            "Search for the fastest or smallest form of a model inside an accuracy budget.",
            "acclimate compress leaf.model photos.parquet -o compressed.model",
            tests_augmentations=False,  # most candidates are not trained
            switches={
                "portable": "Only int8 that is computed alike on every processor.",
                "accept_estimate": "Accept a drop that val has too few images to show.",
            },
            options={
                "max_accuracy_drop": (
                    "POINTS", "Accuracy budget in percentage points, 0 to 100.  [default: 0.5]",
                ),
                "max_latency_ms": (
                    "MS", "Largest latency of one image on this machine, above 0.",
                ),
                "max_size_mb": ("MB", "Largest size of the model file, above 0."),
                "target": (
                    "NAME", "Make this as small as possible: latency, size or macs.  "
                    "[default: latency]",
                ),
                "allow": (
                    "LIST", "What may be tried, with commas: quantize, prune, distill.  "
                    "[default: all]",
                ),
                "max_minutes": ("MINUTES", "Time limit of the search, above 0."),
                "pick": ("NAME", "Take this candidate of an earlier search, without a new one."),
            },
            keeps_candidates=True, require=_check_budget,
        ),
        Stage(
            "export", _export, ("classifier", "dataset"), "classifier", 2,
            "Write one ONNX file and check it against PyTorch.",
            "acclimate export leaf.model photos.parquet -o leaf-onnx.model",
        ),
        Stage(
            "evaluate", _evaluate, ("classifier", "dataset"), "evaluation", 2,
            "Measure accuracy, calibration, latency and size.",
            "acclimate evaluate leaf.model photos.parquet -o leaf.evaluation",
            data="test",
            switches={"include_training": "Include images that the model was trained on."},
        ),
        Stage(
            "compare", _compare, ("evaluation", "evaluation"), "comparison", 1,
            "Compare two evaluations: better, as good, or worse?",
            "acclimate compare leaf.evaluation int8.evaluation",
            require=_check_required,
        ),
    )
}  # fmt: skip
