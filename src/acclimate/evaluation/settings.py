"""Settings of the evaluation room."""

from typing import Annotated, Literal

from pydantic import Field

from acclimate.settings import Auto, Points, Settings

MetricName = Literal["accuracy", "macro_f1", "calibration_error"]


class Evaluate(Settings):
    """How a classifier is measured."""

    split: Literal["test", "val", "train"] = "test"
    """Which images judge; test is read by no other stage."""
    runtime: Literal["torch", "onnx"] | Auto = "auto"
    """What runs the network; auto is ONNX Runtime for an exported model on a CPU."""
    bootstrap: Annotated[int, Field(ge=100, le=100_000)] = 2000
    """Resamples behind each interval."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of the intervals."""
    latency: bool = True
    """Measure the time of one image and of a batch on this machine."""
    tta: bool = False
    """Average over views that the model was taught keep the label: shifts, and mirror images."""


class Compare(Settings):
    """When a challenger is better than, or as good as, a champion."""

    margin: Points = 1.0
    """Percentage points of accuracy that do not matter to you: the equivalence margin."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of the difference's interval; the equivalence test uses the matching two one-sided tests."""
    require: Literal["nothing", "as-good", "better"] = "nothing"
    """Fail with exit code 3 unless the challenger is at least this."""
