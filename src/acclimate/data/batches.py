"""Images in batches, decoded ahead by threads, the same in every run.

Threads and not processes: Pillow decodes and resizes without the interpreter lock, nothing is
pickled, and what an image looks like depends on its own seed and never on which worker met it.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acclimate.context import usable_cores
from acclimate.data.contract import InputContract, Pixels
from acclimate.data.dataset import Dataset, Rows

_AHEAD = 3
"""Batches decoded ahead: enough to cover one slow image, small enough for any memory."""


@dataclass(frozen=True)
class Batch:
    """Some images.

    Attributes:
        images: uint8, (B, S, S, 3).
        targets: int64, (B,): class ids, -1 where there is no label.
        rows: int64, (B,): where in the table they stand.
    """

    images: Pixels
    targets: NDArray[np.int64]
    rows: Rows


def batches(
    dataset: Dataset,
    groups: Sequence[Rows],
    load: Callable[[int], Pixels],
) -> Iterator[Batch]:
    """Loads groups of rows in order, some batches ahead.

    Args:
        dataset: The table.
        groups: The rows of each batch.
        load: Row to uint8 (S, S, 3); called from several threads.

    Yields:
        Batch: One for each group, in their order.

    Raises:
        UnreadableImage: A file broke after it was cleaned.
    """
    with ThreadPoolExecutor(usable_cores(), "decode") as pool:
        coming: deque[tuple[Rows, list[Future[Pixels]]]] = deque()
        waiting = iter(groups)
        try:
            for rows in waiting:
                coming.append((rows, [pool.submit(load, int(row)) for row in rows]))
                if len(coming) > _AHEAD:
                    yield _collect(dataset, *coming.popleft())
            while coming:
                yield _collect(dataset, *coming.popleft())
        finally:
            for _, futures in coming:
                for future in futures:
                    future.cancel()


def in_order(
    dataset: Dataset, rows: Rows, contract: InputContract, batch_size: int = 64
) -> Iterator[Batch]:
    """Plain batches, as evaluation and calibration see them.

    Args:
        dataset: The table.
        rows: Which images.
        contract: How an image becomes pixels.
        batch_size: Images a batch; the last one may be smaller.

    Yields:
        Batch: In the order of the rows.
    """
    groups = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    yield from batches(dataset, groups, lambda row: contract.read(dataset.path(row)))


def _collect(dataset: Dataset, rows: Rows, futures: list[Future[Pixels]]) -> Batch:
    images = np.stack([future.result() for future in futures])
    return Batch(images, dataset.labels[rows], rows)
