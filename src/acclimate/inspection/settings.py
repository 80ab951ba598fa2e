"""Settings of the inspecting room."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from acclimate.settings import Auto, Fraction, Settings

InspectionName = Literal["label_errors", "outliers"]
JudgeName = Literal["nearness", "fine_tuning"]


class Inspect(Settings):
    """What networks say of the labels, and of strangers among the images."""

    looks: tuple[InspectionName, ...] = ("label_errors", "outliers")
    """What is looked for, in order."""
    judges: Annotated[tuple[JudgeName, ...], Field(min_length=1)] = ("nearness",)
    """By what similar images are called; or (finds more) by a training for each fold."""
    also: tuple[str, ...] = ()
    """More pretrained networks that judge labels, at the first's size: finds more, costs more."""
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    """Parts of the images, each judged by what learnt from the others."""
    epochs: PositiveInt | Auto = "auto"
    """Passes over the images in each training of fine_tuning; auto as in fine-tune."""
    label_error: Fraction = 0.9
    """Score from which on a label is flagged as probably wrong."""
    outlier: Fraction = 0.5
    """Score from which on an image is flagged as far from all others."""
    max_images: Annotated[int, Field(ge=2)] = 20_000
    """Images that judges learn from, and that distances are measured to, at most."""
    drop: tuple[InspectionName, ...] = ()
    """What is left out of train instead of being flagged only."""
