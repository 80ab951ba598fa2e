"""The version of an image that is kept between epochs, and how it is had."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import PIL
import torch
from PIL import Image

from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.data.images.contract import InputContract, Pixels
from acclimate.data.images.decode import decode, read_content
from acclimate.data.images.fast_resize import ResizableArray
from acclimate.data.images.pixel_cache import GB, PixelCache
from acclimate.files import digest_bytes, digest_json, pixel_folder

FORMAT = 2
_CROP_MARGIN = 1.25
"""Shorter side of what random crops are taken from, in sides of the network's input: a crop of
0.64 of the area is not enlarged. At 1.5 it takes 1.44 times the disk and the time of a crop."""


@dataclass(frozen=True)
class CachedForm:
    """What is kept of an image.

    Attributes:
        key: Stands for all that determines the pixels but the image.
        min_side: px that the shorter side of the decoded image must keep.
        make: From the decoded image.
    """

    key: str
    min_side: int
    make: Callable[[Image.Image], Pixels]


def evaluation_form(contract: InputContract) -> CachedForm:
    """What evaluation sees: uint8, (S, S, 3), the very pixels of `InputContract.read`.

    Args:
        contract: Of the network.

    Returns:
        The version.
    """
    seen = ("evaluated", contract.image_size, contract.interpolation, contract.crop)
    return CachedForm(_key(*seen), contract.min_side, contract.fit)


def crop_form(contract: InputContract) -> CachedForm:
    """What random crops are taken from: the whole image, its shorter side 1.25 S at most.

    Training always goes through it, whether it was kept or not: the state of a cache changes no
    picture.

    Args:
        contract: Of the network.

    Returns:
        The version.
    """
    side = round(_CROP_MARGIN * contract.image_size)

    def shrink(image: Image.Image) -> Pixels:
        scale = side / min(image.size)
        if scale >= 1:
            return np.asarray(image)
        width, height = (max(side, round(length * scale)) for length in image.size)
        # A copy: Pillow's own array is read-only, and PyTorch wants a writable one.
        whole = ResizableArray(np.array(image))
        return whole.resize((width, height), contract.filter, box=(0, 0, *image.size))

    return CachedForm(_key("roomy", side, contract.interpolation), side, shrink)


def _key(*facts: object) -> str:
    # Another Pillow may decode otherwise, another PyTorch resample otherwise.
    return digest_json([FORMAT, PIL.__version__, torch.__version__, *facts])[:16]


class CachedImages:
    """One version of the images of a data set, kept where that can be.

    Args:
        dataset: Images without a digest (not cleaned) are decoded each time.
        form: What is kept.
        context: Says where, and how much.
    """

    def __init__(self, dataset: Dataset, form: CachedForm, context: Context | None = None) -> None:
        self.dataset, self.form = dataset, form
        self._digests = dataset.table["digest"]
        self._cache: PixelCache | None = None
        self._context, self._warned = context, False
        if context is not None and context.cache_gb > 0:
            bound = round(context.cache_gb * GB)
            self._cache = PixelCache(pixel_folder(context.cache), form.key, bound)

    def read(self, row: int) -> Pixels:
        """The pixels of one image; called from several threads.

        Args:
            row: In the table.

        Returns:
            uint8, (H, W, 3); not to be written to.

        Raises:
            UnreadableImage: The file broke after it was cleaned.
        """
        digest = self._digests[row].as_py() if self._cache is not None else None
        if self._cache is None or digest is None:
            return self._decoded(row, read_content(self.dataset.path(row)))
        kept = self._cache.get(digest)
        if kept is not None:
            return kept
        content = read_content(self.dataset.path(row))
        pixels = self._decoded(row, content)
        # A file that was changed after it was cleaned must not stand for the one that was.
        if bytes.fromhex(digest_bytes(content)) == digest:
            self._cache.put(digest, pixels)
        return pixels

    def flush(self) -> None:
        """Writes what is still in memory, and says once why no more can be kept."""
        if self._cache is None or self._context is None:
            return
        self._cache.flush()
        if self._cache.disabled_reason is not None and not self._warned:
            self._warned = True
            self._context.progress.info(self._cache.disabled_reason)

    def _decoded(self, row: int, content: bytes) -> Pixels:
        path = self.dataset.path(row)
        return self.form.make(decode(content, path, min_side=self.form.min_side))
