"""Settings of the cleaning room."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat

from acclimate.data.settings import Decoding
from acclimate.settings import Fraction

CheckName = Literal["unreadable", "duplicates", "near_duplicates", "groups", "quality"]
DropName = Literal[
    "duplicate",
    "leak",
    "group_leak",
    "label_conflict",
    "near_duplicate",
    "near_leak",
    "near_label_conflict",
    "dark",
    "bright",
    "low_contrast",
    "blurred",
    "odd_aspect",
    "odd_size",
    "grey",
]
Ratio = Annotated[float, Field(gt=1)]


class Clean(Decoding):
    """Which images are left out, and how the rest is split."""

    RENAMED: ClassVar[Mapping[str, str]] = {"feature_likeness": "feature_similarity"}

    checks: tuple[CheckName, ...] = (
        "unreadable",
        "duplicates",
        "near_duplicates",
        "groups",
        "quality",
    )
    """Checks to run, in this order."""
    drop: tuple[DropName, ...] = ("duplicate", "leak", "group_leak", "label_conflict", "near_leak")
    """Flags that leave an image out. Images with other flags are kept."""
    near_duplicate: Fraction = 0.95
    """Correlation from which two images are near-duplicates; raised if all images look alike."""
    mirrored: bool = True
    """Whether a mirrored copy with the same label counts as a near-duplicate."""
    rotated: bool = True
    """Whether a copy turned by 90, 180 or 270 degrees, with the same label, counts as one too."""
    features: bool = False
    """Whether to compare network features too: finds small rotations, edits and other shots."""
    feature_similarity: Fraction = 0.9
    """Cosine similarity from which features match; raised if all images look alike."""
    dark: Fraction = 0.3
    """Dark: mean luminance plus two standard deviations is below this (white is 1)."""
    bright: Fraction = 0.8
    """Bright: mean luminance minus two standard deviations is above this (white is 1)."""
    low_contrast: Fraction = 0.03
    """Low contrast: the standard deviation of the luminance is below this (white is 1)."""
    blurred: NonNegativeFloat = 0.45
    """Blurred: the sharpness at 128 px is below this; most photos have 0.6 or more."""
    odd_aspect: Ratio = 3.0
    """Odd aspect: the longer side is more than this many times the shorter one."""
    odd_size: Ratio = 5.0
    """Odd size: the image is more than this many times larger or smaller than the median."""
    grey: Fraction = 0.01
    """Grey: the mean distance from grey is below this in a data set of color images."""
    val: Fraction = 0.15
    """Fraction of the images for val if the data has no val split; taken from train."""
    test: Fraction = 0.2
    """Fraction of the images for test if the data has no test split."""
