"""The input that a network expects, and how images are converted to it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from acclimate.arguments import checked
from acclimate.data.images.decode import read_image
from acclimate.data.images.samples import BITS, DECODING, PixelRules
from acclimate.errors import ModelFileError, reason
from acclimate.files import AnyPath

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
GREY = (19595, 38470, 7471)
"""Luminance of red, green and blue (ITU-R 601) in 65536ths, as in Pillow; grey stays as it is."""


@checked
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
        mean: Of each channel, for values from 0 to 1. One number for a network that takes grey
            images of one channel.
        std: Of each channel, for values from 0 to 1.
        interpolation: "bilinear", "bicubic" or "lanczos".
        crop: Fraction of the shorter side that the center crop keeps.
        decoding: Version of decoding; models from before it was recorded have 1.
        bits: Bits of the largest sample in 16-bit grey images.
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop: float
    decoding: int = DECODING
    bits: int = BITS

    def __post_init__(self) -> None:
        """Checks the values, since a contract may come from an untrusted file."""
        for name in ("mean", "std"):  # lists are as good
            object.__setattr__(self, name, tuple(getattr(self, name)))
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
        fitting = len(self.mean) == len(self.std) and len(self.mean) in (1, 3)
        if not fitting or not all(map(math.isfinite, numbers)) or min(self.std) <= 0:
            raise ModelFileError(
                "mean and std must be three numbers each, or one for grey images, std above 0. "
                f"Got {self.mean!r}, {self.std!r}."
            )
        if not 1 <= self.decoding <= DECODING:
            raise ModelFileError(
                f"images are decoded by rules of version {self.decoding}, and this acclimate "
                f"knows up to {DECODING}.",
                hint="Upgrade acclimate.",
            )
        if not 8 <= self.bits <= BITS:
            raise ModelFileError(f"bits must be from 8 to {BITS}. Got {self.bits!r}.")

    @property
    def channels(self) -> int:
        """3 for color, 1 for grey."""
        return len(self.mean)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the network's input."""
        return self.channels, self.image_size, self.image_size

    @property
    def rules(self) -> PixelRules:
        """How stored samples become RGB."""
        return PixelRules(self.decoding, self.bits)

    @property
    def filter(self) -> Image.Resampling:
        """The interpolation as a Pillow filter."""
        return _FILTERS[self.interpolation]

    @property
    def decoded_side(self) -> int:
        """px: the shorter side at which a JPEG is decoded; 0 for full size.

        Models from before decoding was recorded learnt to see JPEGs at a fraction of their size.
        """
        return round(self.image_size / self.crop) if self.decoding == 1 else 0

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

    def read(self, path: AnyPath) -> Pixels:
        """Decodes a file and fits it to the network's size, as evaluation and serving do."""
        return self.fit(read_image(Path(path), min_side=self.decoded_side, rules=self.rules))

    def normalize(self, images: Pixels) -> NDArray[np.float32]:
        """Normalizes pixels for the network.

        Args:
            images: uint8, (B, S, S, 3).

        Returns:
            float32, (B, 3, S, S) or (B, 1, S, S), contiguous.
        """
        if self.channels == 1:
            images = ((images @ np.array(GREY, np.uint32) + 0x8000) >> 16).astype(np.uint8)[
                ..., None
            ]
        mean = np.asarray(self.mean, np.float32) * 255
        std = np.asarray(self.std, np.float32) * 255
        numbers = (images.astype(np.float32) - mean) / std
        return np.ascontiguousarray(numbers.transpose(0, 3, 1, 2))

    def as_record(self) -> dict[str, Any]:
        """The contract as JSON. Digests of models depend on it, so what is as ever is left out."""
        record: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("image_size", "mean", "std", "interpolation", "crop")
        }
        if self.decoding > 1:
            record["decoding"] = self.decoding
        if self.bits < BITS:
            record["bits"] = self.bits
        return record

    @classmethod
    def from_record(cls, record: Any) -> Self:  # noqa: ANN401 - from a file
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
                mean=tuple(float(v) for v in record["mean"]),
                std=tuple(float(v) for v in record["std"]),
                interpolation=str(record["interpolation"]),
                crop=float(record["crop"]),
                decoding=int(record.get("decoding", 1)),
                bits=int(record.get("bits", BITS)),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelFileError(
                f"input contract is incomplete or malformed ({reason(error)})."
            ) from error
