"""Settings of the feature room."""

from typing import Annotated

from pydantic import Field, PositiveFloat

from acclimate.settings import Settings


class Probe(Settings):
    """How a linear head is fitted on frozen features."""

    max_images: Annotated[int, Field(ge=2)] = 20_000
    """Images the head is fitted on at most: 100 MB of 1,280 features. Fine-tuning sees them all."""
    regularization: tuple[PositiveFloat, ...] = (1e-3, 1e-2, 1e-1, 1.0)
    """Inverse strengths that are tried on standardized features; val chooses."""
