"""Batches of images, prefetched by threads, the same in every run.

Threads are used and not processes, since Pillow decodes and resizes without the interpreter lock,
and nothing has to be pickled. Augmentation depends on each image's own seed and not on the thread.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from acclimate.context import Context
from acclimate.cpu import usable_cores
from acclimate.data.blocks import blocks
from acclimate.data.dataset import Dataset, Rows
from acclimate.data.images.cached_images import CachedImages, evaluation_form
from acclimate.data.images.contract import InputContract, Pixels
from acclimate.data.images.threads import image_threads

_PREFETCH_BATCHES = 3
"""Prefetched batches: enough to cover one slow image, few enough for any memory."""
_CHEAP_IMAGE_S = 0.0003
"""CPU seconds per image below which half of the cores are faster than all: most of the work is then
Python code, which runs in one thread at a time. Decoding takes longer; cached images of 64 px are
read a third faster so, on two cores."""
_MAX_IMAGES_PER_TASK = 8
"""Largest number of images per task: submitting a task costs as much as a small image."""


@dataclass(frozen=True)
class Batch:
    """A batch of images.

    Attributes:
        images: uint8, (B, S, S, 3).
        targets: int64, (B,): class ids, -1 if there is no label.
        rows: int64, (B,): their rows in the table.
    """

    images: Pixels
    targets: NDArray[np.int64]
    rows: Rows


def batches(
    dataset: Dataset,
    groups: Sequence[Rows],
    load: Callable[[int], Pixels],
) -> Iterator[Batch]:
    """Loads groups of rows in order, with prefetching.

    Args:
        dataset: The table.
        groups: The rows of each batch.
        load: Maps a row to uint8 (S, S, 3); called from several threads.

    Yields:
        Batch: One per group, in their order.

    Raises:
        UnreadableImage: A file broke after it was cleaned.
    """
    cores = usable_cores()
    with image_threads("decode", cores) as full, image_threads("read", max(1, cores // 2)) as half:
        pending: deque[_PendingBatch] = deque()
        pool = full
        try:
            for rows in groups:
                pending.append(_PendingBatch(rows, load, pool))
                if len(pending) > _PREFETCH_BATCHES:
                    pool = half if pending[0].seconds < _CHEAP_IMAGE_S else full
                    yield pending.popleft().result(dataset)
            while pending:
                yield pending.popleft().result(dataset)
        finally:
            for pending_batch in pending:
                pending_batch.cancel()


def ordered_batches(
    dataset: Dataset,
    rows: Rows,
    contract: InputContract,
    batch_size: int = 64,
    *,
    context: Context | None = None,
    cached_images: CachedImages | None = None,
) -> Iterator[Batch]:
    """Batches without augmentation, for evaluation and calibration.

    Args:
        dataset: The table.
        rows: Which images.
        contract: The network's input.
        batch_size: Images per batch; the last one may be smaller.
        context: Its cache keeps decoded images; without a context none are kept.
        cached_images: Images to use again instead of new ones.

    Yields:
        Batch: In the order of the rows.
    """
    cached_images = cached_images or CachedImages(dataset, evaluation_form(contract), context)
    groups = [rows[block] for block in blocks(len(rows), batch_size)]
    yield from batches(dataset, groups, cached_images.read)
    cached_images.flush()


@dataclass
class _PendingBatch:
    """A batch that threads are filling."""

    rows: Rows
    load: Callable[[int], Pixels]
    pool: ThreadPoolExecutor
    images: Pixels | None = None
    futures: list[Future[float]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        """Submits the images, a few per task."""
        step = max(1, min(_MAX_IMAGES_PER_TASK, len(self.rows) // (2 * usable_cores())))
        for block in blocks(len(self.rows), step):
            self.futures.append(self.pool.submit(self._fill, block.start, block.stop))

    def _fill(self, start: int, end: int) -> float:
        """Loads some of the images; returns the CPU seconds that they took."""
        began = time.thread_time()
        for place, row in enumerate(self.rows[start:end], start):
            pixels = self.load(int(row))
            with self.lock:
                if self.images is None:
                    self.images = np.empty((len(self.rows), *pixels.shape), np.uint8)
            self.images[place] = pixels
        return time.thread_time() - began

    def result(self, dataset: Dataset) -> Batch:
        """The batch, once it is full."""
        for future in self.futures:
            future.result()
        assert self.images is not None  # groups are never empty
        return Batch(self.images, dataset.labels[self.rows], self.rows)

    @property
    def seconds(self) -> float:
        """CPU seconds per image, once the batch is full."""
        return sum(future.result() for future in self.futures) / len(self.rows)

    def cancel(self) -> None:
        """Cancels tasks that have not started."""
        for future in self.futures:
            future.cancel()
