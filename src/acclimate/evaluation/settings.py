"""Settings of evaluation and comparison."""

from typing import Annotated, Literal

from pydantic import Field

from acclimate.settings import Auto, Points, Settings

MetricName = Literal["accuracy", "macro_f1", "calibration_error"]


class Evaluate(Settings):
    """Measures a classifier."""

    split: Literal["test", "val", "train"] = "test"
    """Split to evaluate on; no other stage reads the test split."""
    runtime: Literal["torch", "onnx"] | Auto = "auto"
    """Runtime of the network; auto is ONNX Runtime for an exported model on a CPU."""
    bootstrap: Annotated[int, Field(ge=100, le=100_000)] = 2000
    """Number of bootstrap resamples for each interval."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence level of the intervals."""
    latency: bool = True
    """Measure the time for one image and for a batch on this machine."""
    include_training: bool = False
    """Include images that the model was trained on or chosen by: the figures are too high."""
    tta: bool = False
    """Test-time augmentation: average over translated and flipped views that the training used."""


class Compare(Settings):
    """Compares a challenger with a champion."""

    margin: Points = 1.0
    """Equivalence margin: a difference in accuracy that does not matter, in percentage points."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence level of the interval and of the equivalence test (two one-sided tests)."""
    require: Literal["nothing", "as-good", "better"] = "nothing"
    """Exit with code 3 unless the challenger is at least this good."""
