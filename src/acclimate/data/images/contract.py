"""The input that a network expects, and how images are converted to it."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from acclimate.data.images.decode import read_image
from acclimate.errors import ModelFileError, reason

Pixels = NDArray[np.uint8]
"""(H, W, 3) or (B, H, W, 3), RGB, 0 to 255."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in px."""


class Resizable(Protocol):
    """A Pillow image, or an object that can be cropped and resized like one."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px."""

    @property
    def width(self) -> int:
        """Height in px."""

    @property
    def height(self) -> int:
        """Height in px."""

    def resize(self, size: tuple[int, int], resample: Image.Resampling, *, box: Box) -> Any:  # noqa: ANN401 - an image or an array
        """Crops and resizes."""


_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
MAX_IMAGE_SIZE = 2048


@dataclass(frozen=True)
class InputContract:
    """Size and statistics of the input. There are no defaults, since a wrong mean costs accuracy.

    >>> from acclimate import InputContract
    >>> half = (0.5, 0.5, 0.5)
    >>> contract = InputContract(96, mean=half, std=half, interpolation="bicubic", crop=0.9)
    >>> contract.read(Path("photo.jpg")).shape
    (96, 96, 3)

    Attributes:
        image_size: px, both sides.
        mean: Of each channel, for values from 0 to 1.
        std: Of each channel, for values from 0 to 1.
        interpolation: "bilinear", "bicubic" or "lanczos".
        crop: Fraction of the shorter side that the center crop keeps.
    """

    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    crop: float

    def __post_init__(self) -> None:
        """Checks the values, since a contract may come from an untrusted file."""
        if not 8 <= self.image_size <= MAX_IMAGE_SIZE:
            raise ModelFileError(
                f"image_size must be from 8 to {MAX_IMAGE_SIZE} px. Got {self.image_size!r}."
            )
        if self.interpolation not in _FILTERS:
            raise ModelFileError(
                f"interpolation must be one of {', '.join(_FILTERS)}. Got {self.interpolation!r}."
            )
        if not 0 < self.crop <= 1:
            raise ModelFileError(f"crop must be in (0, 1]. Got {self.crop!r}.")
        numbers = (*self.mean, *self.std)
        three = len(self.mean) == len(self.std) == 3
        if not three or not all(map(math.isfinite, numbers)) or min(self.std) <= 0:
            raise ModelFileError(
                f"mean and std must be three numbers, std above 0. Got {self.mean!r}, {self.std!r}."
            )

    @property
    def filter(self) -> Image.Resampling:
        """The interpolation as a Pillow filter."""
        return _FILTERS[self.interpolation]

    @property
    def min_side(self) -> int:
        """The smallest useful shorter side of a decoded image, in px."""
        return round(self.image_size / self.crop)

    def fit(self, image: Resizable) -> Pixels:
        """The center crop of an image, resized to the network's size.

        Args:
            image: RGB, any size.

        Returns:
            uint8, (image_size, image_size, 3).
        """
        side = min(image.size) * self.crop
        left, top = (image.width - side) / 2, (image.height - side) / 2
        return self.resize(image, (left, top, left + side, top + side))

    def resize(self, image: Resizable, box: Box) -> Pixels:
        """Crops an image and resizes it to the network's size.

        Args:
            image: RGB.
            box: px: left, top, right, bottom, inside the image.

        Returns:
            uint8, (image_size, image_size, 3).
        """
        size = (self.image_size, self.image_size)
        return np.asarray(image.resize(size, self.filter, box=box))

    def read(self, path: Path) -> Pixels:
        """Decodes a file and fits it to the network's size, as evaluation and serving do."""
        return self.fit(read_image(path, min_side=self.min_side))

    def normalize(self, images: Pixels) -> NDArray[np.float32]:
        """Normalizes pixels for the network.

        Args:
            images: uint8, (B, S, S, 3).

        Returns:
            float32, (B, 3, S, S), contiguous.
        """
        mean = np.asarray(self.mean, np.float32) * 255
        std = np.asarray(self.std, np.float32) * 255
        numbers = (images.astype(np.float32) - mean) / std
        return np.ascontiguousarray(numbers.transpose(0, 3, 1, 2))

    def as_record(self) -> dict[str, Any]:
        """The contract as JSON."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """Reads what `as_record` wrote.

        Args:
            record: From `model.json` or an ONNX file's metadata.

        Returns:
            The contract.

        Raises:
            ModelFileError: A field is missing, unknown or out of range.
        """
        try:
            return cls(
                image_size=int(record["image_size"]),
                mean=_three(record["mean"]),
                std=_three(record["std"]),
                interpolation=str(record["interpolation"]),
                crop=float(record["crop"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelFileError(
                f"input contract is incomplete or malformed ({reason(error)})."
            ) from error


def _three(values: Any) -> tuple[float, float, float]:  # noqa: ANN401 - JSON from outside
    first, second, third = (float(v) for v in values)
    return first, second, third
