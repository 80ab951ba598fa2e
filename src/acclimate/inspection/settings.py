"""Settings of the inspection room."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from acclimate.settings import Auto, Fraction, Settings

InspectionName = Literal["label_errors", "outliers"]
EstimatorName = Literal["kernel", "fine_tuning"]


class Inspect(Settings):
    """Finds label errors and outliers with pretrained networks."""

    RENAMED: ClassVar = {"looks": "checks", "judges": "estimators", "also": "extra_models"}

    checks: tuple[InspectionName, ...] = ("label_errors", "outliers")
    """Checks to run, in this order."""
    estimators: Annotated[tuple[EstimatorName, ...], Field(min_length=1)] = ("kernel",)
    """Cross-validated classifiers that check labels; fine_tuning finds more and trains per fold."""
    extra_models: tuple[str, ...] = ()
    """More networks that check labels, at the first one's image size; slower, and finds more."""
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    """Number of cross-validation folds."""
    epochs: PositiveInt | Auto = "auto"
    """Training epochs per fold with fine_tuning; auto as in fine-tune."""
    label_error: Fraction | Auto = "auto"
    """Score from which a label is flagged; auto is 0.9, or lower if many labels are wrong."""
    outlier: Fraction = 0.5
    """Score from which an image is flagged as an outlier."""
    max_images: Annotated[int, Field(ge=2)] = 20_000
    """Maximum number of images to learn from and to measure distances to."""
    drop: tuple[InspectionName, ...] = ()
    """Findings to drop from train; all others are only flagged."""
