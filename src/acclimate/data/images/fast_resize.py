"""Crops and resizes arrays of pixels like Pillow, but faster."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from acclimate.data.images.contract import Box, Pixels

_MODES = {Image.Resampling.BILINEAR: "bilinear", Image.Resampling.BICUBIC: "bicubic"}
"""PyTorch resizes bytes with vector instructions: 2 to 4 times faster than Pillow, with differences
of at most 1. It has no Lanczos filter, for which Pillow is used."""


@dataclass(frozen=True)
class ResizableArray:
    """An image as an array that can be cropped and resized.

    Attributes:
        pixels: uint8, (H, W, 3).
    """

    pixels: Pixels

    @property
    def width(self) -> int:
        """Of the whole image, in px."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Of the whole image, in px."""
        return int(self.pixels.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px."""
        return self.width, self.height

    def resize(self, size: tuple[int, int], resample: Image.Resampling, *, box: Box) -> Pixels:
        """Crops and resizes the image.

        Args:
            size: Width and height in px.
            resample: The filter.
            box: px: left, top, right, bottom; rounded to whole pixels.

        Returns:
            uint8, (H, W, 3); a view of the pixels if nothing changes.
        """
        left, top, right, bottom = (round(edge) for edge in box)
        left, top = min(left, self.width - 1), min(top, self.height - 1)
        # Not self.pixels[None]: PyTorch takes its stride of 0 for channels first, and reordering
        # the result took longer than this.
        whole = self.pixels.reshape(1, *self.pixels.shape)
        part = whole[:, top : max(bottom, top + 1), left : max(right, left + 1)]
        if part.shape[2:0:-1] == size:
            same: Pixels = part[0]
            return same
        if resample not in _MODES:
            return np.asarray(Image.fromarray(part[0]).resize(size, resample))
        # Views are made with NumPy: each call of PyTorch releases the interpreter lock and has to
        # wait for it again.
        batch = torch.from_numpy(_writable(part).transpose(0, 3, 1, 2))
        mode = _MODES[resample]
        resized = functional.interpolate(batch, (size[1], size[0]), mode=mode, antialias=True)
        found: Pixels = resized.numpy()[0].transpose(1, 2, 0)  # (H, W, 3) in memory, too
        return found


def flip_horizontal(pixels: Pixels) -> Pixels:
    """Flips images horizontally.

    Args:
        pixels: uint8, (..., H, W, 3).

    Returns:
        The same shape, contiguous.
    """
    # Vectorized: takes a third of the time of copying channel by channel.
    found: Pixels = torch.flip(torch.from_numpy(_writable(pixels)), (-2,)).numpy()
    return found


def _writable(pixels: Pixels) -> Pixels:
    """The pixels or a copy: PyTorch warns about read-only arrays."""
    return pixels if pixels.flags.writeable else pixels.copy()
