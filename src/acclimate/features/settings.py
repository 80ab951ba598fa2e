"""Settings of the probe."""

from typing import Annotated

from pydantic import Field, PositiveFloat

from acclimate.settings import Settings


class Probe(Settings):
    """Fits a linear head on frozen features."""

    max_images: Annotated[int, Field(ge=2)] = 20_000
    """Largest number of images the head is fitted on; 20,000 rows of 1,280 features are 100 MB.
    Fine-tuning uses all images."""
    regularization: tuple[PositiveFloat, ...] = (1e-3, 1e-2, 1e-1, 1.0)
    """Inverse regularization strengths to try on standardized features; the best on val is used."""
