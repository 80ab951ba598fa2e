"""The decoded and resized form of images that is cached between epochs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import PIL
import torch
from PIL import Image

from acclimate.cache import pixel_folder, usable_cache
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.data.images.contract import InputContract, Pixels
from acclimate.data.images.decode import decode, read_content
from acclimate.data.images.fast_resize import ResizableArray
from acclimate.data.images.pixel_cache import GB, PixelCache
from acclimate.data.images.samples import PixelRules
from acclimate.files import digest_bytes, digest_json

FORMAT = 3
_CROP_MARGIN = 1.25
"""Shorter side of the images that random crops are taken from, as a multiple of the input size: a
crop of 0.64 of the area is not enlarged. 1.5 would take 1.44 times the disk space and crop time."""


@dataclass(frozen=True)
class CachedForm:
    """A form in which images are cached.

    Attributes:
        key: Identifies everything that determines the pixels except the image.
        min_side: px: the shorter side that is needed of the decoded image; 0 for full size.
        rules: How samples become RGB.
        make: Computes the form from the decoded image.
    """

    key: str
    min_side: int
    rules: PixelRules
    make: Callable[[Image.Image], Pixels]


def evaluation_form(contract: InputContract) -> CachedForm:
    """The form for evaluation: uint8, (S, S, 3), exactly the pixels of `InputContract.read`.

    Args:
        contract: The network's input.

    Returns:
        The form.
    """
    rules = contract.rules
    seen = ("evaluated", contract.image_size, contract.interpolation, contract.crop, rules)
    return CachedForm(_key(*seen), contract.decoded_side, rules, contract.fit)


def crop_form(contract: InputContract) -> CachedForm:
    """The form for random crops: the whole image, with a shorter side of at most 1.25 S.

    Training always uses it, cached or not, so that the state of the cache changes no pixel. Large
    JPEGs are decoded at a fraction of their size, which crops and augmentation far outweigh.

    Args:
        contract: The network's input.

    Returns:
        The form.
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

    key = _key("roomy", side, contract.interpolation, contract.rules)
    return CachedForm(key, side, contract.rules, shrink)


def _key(*facts: object) -> str:
    # Other versions of Pillow and PyTorch may decode and resample differently.
    return digest_json([FORMAT, PIL.__version__, torch.__version__, *facts])[:16]


class CachedImages:
    """The images of a data set in one form, cached if possible.

    Args:
        dataset: Images without a digest (not cleaned) are not cached.
        form: The form.
        context: Provides the cache folder and its size.
    """

    def __init__(self, dataset: Dataset, form: CachedForm, context: Context | None = None) -> None:
        self.dataset, self.form = dataset, form
        self._digests = dataset.table["digest"]
        self._cache: PixelCache | None = None
        self._context, self._warned = context, False
        if context is not None and context.cache_gb > 0:
            bound, folder = round(context.cache_gb * GB), pixel_folder(context.cache)
            # A folder that exists is read even if nothing can be added.
            place = context.cache if folder.is_dir() else usable_cache(context.cache)
            if place is not None:
                self._cache = PixelCache(pixel_folder(place), form.key, bound)

    def read(self, row: int) -> Pixels:
        """Reads the pixels of one image; may be called from several threads.

        Args:
            row: Its row in the table.

        Returns:
            uint8, (H, W, 3), read-only.

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
        # A file that was changed after cleaning must not be cached under the old digest.
        if bytes.fromhex(digest_bytes(content)) == digest:
            self._cache.put(digest, pixels)
        return pixels

    def flush(self) -> None:
        """Writes pending images to the cache; reports once if no more can be cached."""
        if self._cache is None or self._context is None:
            return
        self._cache.flush()
        if self._cache.disabled_reason is not None and not self._warned:
            self._warned = True
            self._context.progress.info(self._cache.disabled_reason)

    def _decoded(self, row: int, content: bytes) -> Pixels:
        path = self.dataset.path(row)
        form = self.form
        return form.make(decode(content, path, min_side=form.min_side, rules=form.rules))
