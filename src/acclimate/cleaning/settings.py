"""Settings of the cleaning room."""

from typing import Annotated, Literal

from pydantic import Field

from acclimate.data.settings import Decoding
from acclimate.settings import Fraction, Settings

CheckName = Literal["unreadable", "duplicates"]
InspectionName = Literal["label_errors", "outliers"]


class Clean(Decoding):
    """Which images are left out, and how the rest is split."""

    checks: tuple[CheckName, ...] = ("unreadable", "duplicates")
    """What is looked for, in order."""
    val: Fraction = 0.15
    """Part of the images that chooses, where the data has no val split; taken from train."""
    test: Fraction = 0.2
    """Part of the images that judges, where the data has no test split."""


class Inspect(Settings):
    """What the images' features say about their labels, and about strangers among them."""

    looks: tuple[InspectionName, ...] = ("label_errors", "outliers")
    """What is looked for, in order."""
    also: tuple[str, ...] = ()
    """More pretrained networks that judge labels: finds more, costs a pass of each."""
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    """Heads that are fitted, each without one part of the images, which it then judges."""
    label_error: Fraction = 0.95
    """Score from which on a label is flagged as probably wrong."""
    outlier: Fraction = 0.5
    """Score from which on an image is flagged as far from all others."""
    max_images: Annotated[int, Field(ge=2)] = 20_000
    """Images that heads are fitted on, and that distances are measured to, at most."""
    drop: tuple[InspectionName, ...] = ()
    """What is left out of train instead of being flagged only."""
