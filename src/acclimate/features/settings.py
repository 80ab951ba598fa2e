"""Settings of the feature room."""

from pydantic import PositiveFloat, PositiveInt

from acclimate.settings import Settings


class Probe(Settings):
    """How a linear head is fitted on frozen features."""

    max_images: PositiveInt = 20_000
    """Images the head is fitted on at most: 100 MB of 1,280 features. Fine-tuning sees them all."""
    regularization: tuple[PositiveFloat, ...] = (1e-3, 1e-2, 1e-1, 1.0)
    """Inverse strengths that are tried on standardized features; val chooses."""
