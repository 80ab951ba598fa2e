"""What a frozen prefix makes of each view of each image, kept for the length of a training."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acclimate.data.dataset import Rows
from acclimate.files import write_atomic, writing_errors

Kept = NDArray[np.float16]
"""(n, *shape): half the disk of float32, and exact to three digits: less than an int8 weight."""

_LARGEST = float(np.finfo(np.float16).max)


class Activations:
    """Rows by view and image, memory-mapped; empty places take no room on the disk.

    Args:
        folder: Of this training alone.
        rows: int64, (n,): the images, by their place in the table.
        views: Of each image.
        shape: Of the activations of one image.
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
                told = np.frombuffer(self._names.read_bytes(), bool)
                if told.size == self.filled.size:
                    self.filled = told.reshape(self.filled.shape).copy()

    def missing(self, view: int, rows: Rows) -> Rows:
        """Those of some images that are not here yet."""
        there = self.filled[view, self._at(rows)]
        return np.asarray(rows[~there])

    def put(self, view: int, rows: Rows, values: NDArray[np.floating]) -> None:
        """Keeps the activations of some images.

        Args:
            view: From 0.
            rows: int64, (b,).
            values: float, (b, *shape).
        """
        at = self._at(rows)
        self._kept[view, at] = np.clip(values, -_LARGEST, _LARGEST)
        self.filled[view, at] = True

    def get(self, view: int, rows: Rows) -> Kept:
        """The activations of images that are all here: float16, (b, *shape)."""
        return np.asarray(self._kept[view, self._at(rows)])

    def flush(self) -> None:
        """Makes what was put last through a kill: first the values, then which there are."""
        with writing_errors(self._names.parent):
            self._kept.flush()
            write_atomic(self._names, self.filled.tobytes())

    def _at(self, rows: Rows) -> NDArray[np.int64]:
        return np.array([self._place[int(row)] for row in rows], np.int64)


def bytes_of(images: int, views: int, shape: tuple[int, ...]) -> int:
    """What a store takes on the disk when it is full."""
    return images * views * int(np.prod(shape)) * np.dtype(np.float16).itemsize
