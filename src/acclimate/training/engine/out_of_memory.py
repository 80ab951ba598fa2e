"""Too little memory for a batch: it is done in pieces, and their gradients are added up."""

from itertools import pairwise

import torch

from acclimate.errors import RecipeError

_TEXTS = ("not enough memory", "defaultcpuallocator", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of whichever device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(t in str(error).lower() for t in _TEXTS)


def halved(micro_batch: int, images: int, least: int = 1) -> int:
    """How many images to try at once after as many as now were too many.

    Args:
        micro_batch: The bound now; 0 where there is none.
        images: Images that a process has in a batch.
        least: How many there must be; two for batch norm that learns.

    Returns:
        At least that.

    Raises:
        RecipeError: It was no more already.
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
    """A batch cut into parts of nearly equal size: a single image left over has no statistics."""
    parts = min(parts, images)
    cuts = [images * i // parts for i in range(parts + 1)]
    return [slice(start, end) for start, end in pairwise(cuts)]
