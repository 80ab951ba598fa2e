"""Settings of the cleaning room."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat

from acclimate.data.settings import Decoding
from acclimate.settings import Fraction

CheckName = Literal["unreadable", "duplicates", "near_duplicates", "quality"]
DropName = Literal[
    "duplicate",
    "leak",
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

    checks: tuple[CheckName, ...] = ("unreadable", "duplicates", "near_duplicates", "quality")
    """What is looked for, in order."""
    drop: tuple[DropName, ...] = ("duplicate", "leak", "label_conflict", "near_leak")
    """Findings that leave an image out; the others are only flagged."""
    near_duplicate: Fraction = 0.95
    """Likeness from which two images are near-duplicates; raised where all images are alike."""
    mirrored: bool = False
    """Whether a mirror image counts as a near-duplicate."""
    rotated: bool = False
    """Whether an image turned by 90, 180 or 270 degrees counts as a near-duplicate."""
    features: bool = False
    """Whether a network compares images too (small turns, edits, other shots): takes a pass."""
    feature_likeness: Fraction = 0.9
    """Cosine of the network's features from which that is so; raised where all are alike."""
    dark: Fraction = 0.3
    """Dark: mean luminance plus twice its deviation is below this part of white."""
    bright: Fraction = 0.8
    """Bright: mean luminance less twice its deviation is above this part of white."""
    low_contrast: Fraction = 0.03
    """Low contrast, nearly blank: the luminance deviates by less than this part of white."""
    blurred: NonNegativeFloat = 0.45
    """Blurred: sharpness at 128 px is below this; photos have 0.6 and more."""
    odd_aspect: Ratio = 3.0
    """Odd aspect: the longer side is more than so many times the shorter one."""
    odd_size: Ratio = 5.0
    """Odd size: the side is so many times larger or smaller than the data's median."""
    grey: Fraction = 0.01
    """Grey in a data set of colour images: the mean distance from grey is below this."""
    val: Fraction = 0.15
    """Part of the images that chooses, where the data has no val split; taken from train."""
    test: Fraction = 0.2
    """Part of the images that judges, where the data has no test split."""
