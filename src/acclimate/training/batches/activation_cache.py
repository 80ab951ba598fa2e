"""Cache of the output of frozen layers for each view of each image, for one training."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acclimate.data.dataset import Rows
from acclimate.files import write_atomic, writing_errors

Kept = NDArray[np.float16]
"""(n, *shape): half the size of float32, and precise to three digits, more than int8 weights."""

_LARGEST = float(np.finfo(np.float16).max)


class Activations:
    """A memory-mapped array by view and image; empty entries take no disk space.

    Args:
        folder: Folder of this training alone.
        rows: int64, (n,): rows of the images in the table.
        views: Number of views per image.
        shape: Shape of the activations of one image.
    """

    def __init__(self, folder: Path, rows: Rows, views: int, shape: tuple[int, ...]) -> None:
        self._names = folder / "activations.filled"
        self._place = {int(row): place for place, row in enumerate(rows)}
        self.filled = np.zeros((views, len(rows)), bool)
        with writing_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / "activations.f16"
            whole = (views, len(rows), *shape)
            again = path.exists() and self._names.exists()
            self._kept = np.memmap(path, np.float16, "r+" if again else "w+", shape=whole)
            if again:
                filled = np.frombuffer(self._names.read_bytes(), bool)
                if filled.size == self.filled.size:
                    self.filled = filled.reshape(self.filled.shape).copy()

    def missing(self, view: int, rows: Rows) -> Rows:
        """The rows that are not cached yet."""
        there = self.filled[view, self._at(rows)]
        return np.asarray(rows[~there])

    def put(self, view: int, rows: Rows, values: NDArray[np.floating]) -> None:
        """Stores the activations of some images.

        Args:
            view: Number of the view, from 0.
            rows: int64, (b,).
            values: float, (b, *shape).
        """
        at = self._at(rows)
        self._kept[view, at] = np.clip(values, -_LARGEST, _LARGEST)
        self.filled[view, at] = True

    def get(self, view: int, rows: Rows) -> Kept:
        """The activations of cached images: float16, (b, *shape)."""
        return np.asarray(self._kept[view, self._at(rows)])

    def flush(self) -> None:
        """Writes everything to disk, the values before the index, so that a kill leaves no gaps."""
        with writing_errors(self._names.parent):
            self._kept.flush()
            write_atomic(self._names, self.filled.tobytes())

    def _at(self, rows: Rows) -> NDArray[np.int64]:
        return np.array([self._place[int(row)] for row in rows], np.int64)


def bytes_of(images: int, views: int, shape: tuple[int, ...]) -> int:
    """Size of a full cache on the disk."""
    return images * views * int(np.prod(shape)) * np.dtype(np.float16).itemsize
