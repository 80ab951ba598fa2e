"""Gradient accumulation over micro-batches when a batch does not fit in memory."""

from itertools import pairwise

import torch

from acclimate.errors import RecipeError

_TEXTS = ("not enough memory", "defaultcpuallocator", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the memory of a CPU or GPU ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(t in str(error).lower() for t in _TEXTS)


def halved(micro_batch: int, images: int, least: int = 1) -> int:
    """The next smaller micro-batch after one that did not fit in memory.

    Args:
        micro_batch: The current one; 0 if whole batches were tried.
        images: Number of images of a process in a batch.
        least: Smallest possible; 2 if batch norm is trained.

    Returns:
        Half as many images, at least `least`.

    Raises:
        RecipeError: It is the smallest possible one already.
    """
    now = min(micro_batch or images, images)
    if now <= least:
        few = "one image" if least == 1 else "two images"
        raise RecipeError(
            f"out of memory even with {few} per forward pass.",
            where="batch_size",
            hint="Use a smaller model, a smaller image_size, or a device with more memory.",
        )
    return max(least, now // 2)


def pieces(images: int, parts: int) -> list[slice]:
    """Slices of nearly equal size, since batch norm cannot use a single image left over."""
    parts = min(parts, images)
    cuts = [images * i // parts for i in range(parts + 1)]
    return [slice(start, end) for start, end in pairwise(cuts)]
