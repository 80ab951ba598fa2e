"""What is done to training images, as a value that travels."""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast

import numpy as np

from acclimate.augmentation.operations import OPERATIONS
from acclimate.augmentation.settings import Augment
from acclimate.context import Context
from acclimate.data.contract import Box, InputContract, Pixels, Resizable
from acclimate.data.picture import mirrored
from acclimate.errors import DataError, near_names
from acclimate.files import digest_json, read_json, write_json

FORMAT = 1
_DEFAULT = Augment()
_HERE = Context()
_RATIOS = (3 / 4, 4 / 3)
"""Aspect ratios of a random crop (Szegedy et al. 2014, arXiv 1409.4842)."""


@dataclass(frozen=True)
class Policy:
    """The augmentations of a training run.

    Attributes:
        crop_area: Smallest part of the area a crop shows, in (0, 1].
        horizontal_flip: Whether half of the images are mirrored.
        color: How far colours wander, in [0, 1].
        operations: What is drawn from for each image.
        operations_per_image: How many are drawn.
        strength: Of each of them, in [0, 1].
    """

    crop_area: float
    horizontal_flip: bool
    color: float
    operations: tuple[str, ...]
    operations_per_image: int
    strength: float

    def __post_init__(self) -> None:
        """Refuses an operation that does not exist."""
        for name in self.operations:
            if name not in OPERATIONS:
                raise DataError(f"no augmentation {name!r}. {near_names(name, OPERATIONS)}")

    @cached_property
    def digest(self) -> str:
        """Stands for all the fields."""
        return digest_json({"format": FORMAT, **asdict(self)})

    def apply(self, image: Resizable, contract: InputContract, rng: np.random.Generator) -> Pixels:
        """One training view of an image.

        Args:
            image: RGB, any size.
            contract: Gives the size and the interpolation.
            rng: Draws everything random.

        Returns:
            uint8, (S, S, 3).
        """
        if self.crop_area < 1:
            pixels = contract.resize(image, self._box(image, rng))
        else:
            pixels = contract.fit(image)
        if self.horizontal_flip and rng.random() < 0.5:
            pixels = mirrored(pixels)
        if self.color:
            for name in ("brightness", "contrast", "color"):
                pixels = OPERATIONS[name](pixels, self.color, rng)
        if self.operations:
            for index in rng.integers(len(self.operations), size=self.operations_per_image):
                pixels = OPERATIONS[self.operations[index]](pixels, self.strength, rng)
        return pixels

    def _box(self, image: Resizable, rng: np.random.Generator) -> Box:
        """A crop of random area and ratio, as large as the image allows."""
        width, height = image.size
        area = rng.uniform(self.crop_area, 1.0)
        ratio = float(np.exp(rng.uniform(*np.log(_RATIOS))))
        # Measured on the square that evaluation sees, so that objects keep their size.
        side = min(width, height) * np.sqrt(area)
        w, h = min(side * np.sqrt(ratio), width), min(side / np.sqrt(ratio), height)
        left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
        return (left, top, left + w, top + h)

    def save(self, path: Path) -> None:
        """Writes JSON, atomically."""
        write_json(path, {"format": FORMAT, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote.

        Args:
            path: The file.

        Returns:
            The policy.

        Raises:
            DataError: The file is no policy.
        """
        record = read_json(path)
        try:
            fields = dict(cast("dict[str, Any]", record))
            if int(fields.pop("format")) > FORMAT:
                raise DataError("policy was written by a newer acclimate.", where=path)
            if missing := set(Augment.model_fields) - set(fields):
                raise KeyError(sorted(missing)[0])
            return cls(**Augment.model_validate(fields).model_dump())
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"file is not a policy ({error}).", where=path) from error


def choose_policy(settings: Augment = _DEFAULT, *, context: Context = _HERE) -> Policy:
    """The policy that a recipe's section asks for.

    Args:
        settings: The section.
        context: The run.

    Returns:
        The policy.
    """
    return Policy(**settings.model_dump())
