"""Settings of the cleaning room."""

from typing import Literal

from acclimate.data.settings import Decoding
from acclimate.settings import Fraction

CheckName = Literal["unreadable", "duplicates"]


class Clean(Decoding):
    """Which images are left out, and how the rest is split."""

    checks: tuple[CheckName, ...] = ("unreadable", "duplicates")
    """What is looked for, in order."""
    val: Fraction = 0.15
    """Part of the images that chooses, where the data has no val split; taken from train."""
    test: Fraction = 0.2
    """Part of the images that judges, where the data has no test split."""
