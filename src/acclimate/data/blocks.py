"""Loops over long sequences block by block, so that memory stays bounded."""

from collections.abc import Iterator


def blocks(count: int, size: int) -> Iterator[slice]:
    """Slices that cover a sequence in order.

    Args:
        count: Length of the sequence.
        size: Length of each block; the last one may be shorter.

    Yields:
        slice: With exact bounds: `stop` is at most `count`.
    """
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
