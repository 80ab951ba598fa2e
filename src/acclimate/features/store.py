"""Feature rows, looked up by image digest: on disk and kept between runs, or in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from acclimate.errors import OutputError
from acclimate.files import DIGEST_BYTES, Appended, append_named, writing_errors

Features = NDArray[np.float32]
"""(N, D)."""


@dataclass(frozen=True)
class StoredRows:
    """Rows of a store that are read from disk when they are indexed."""

    _file: Path
    _positions: NDArray[np.int64]
    _dimension: int
    _columns: int

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._positions)

    def __getitem__(self, rows: NDArray[np.int64], /) -> Features:
        """Reads some rows.

        Args:
            rows: int64, (n,).

        Returns:
            float32, (n, D), in memory.

        Raises:
            OutputError: Another program truncated the file.
        """
        found = np.empty((len(rows), self._columns), np.float32)
        if not len(rows):
            return found
        # Read, not memory-mapped: neighbouring pages of a mapped file would count as our memory.
        with self._file.open("rb", buffering=0) as stream:
            for row, position in zip(found, self._positions[rows].tolist(), strict=True):
                stream.seek(position * self._dimension * row.itemsize)
                if stream.readinto(row.data) != row.nbytes:
                    raise OutputError(
                        "stored features are missing.",
                        where=self._file,
                        hint="Run again, and let no other program change this folder.",
                    )
        return found


class FeatureStore:
    """Append-only feature rows of one backbone at one input size.

    Rows are written before their digests. A killed run leaves at most rows without a digest, which
    the next run overwrites.

    Args:
        folder: Folder for this backbone and input contract.
        dimension: D, the number of features.
    """

    def __init__(self, folder: Path, dimension: int) -> None:
        self.folder, self.dimension = folder, dimension
        _make(folder)
        self._rows, self._names = folder / "rows.f32", folder / "digests.bin"
        self._index: dict[bytes, int] = {}
        self._refresh()

    def lock(self) -> FileLock:
        """The lock to hold while adding rows, because several runs may share a store."""
        return store_lock(self.folder)

    def missing(self, digests: Sequence[bytes]) -> list[int]:
        """Positions of the images without stored features, each distinct image once."""
        self._refresh()
        seen: set[bytes] = set()
        positions = []
        for position, digest in enumerate(digests):
            if digest not in self._index and digest not in seen:
                seen.add(digest)
                positions.append(position)
        return positions

    def add(self, digests: Sequence[bytes], features: Features) -> None:
        """Appends rows. The caller must hold the lock.

        Args:
            digests: Image digests, 16 bytes each.
            features: float32, (n, D).
        """
        assert features.shape == (len(digests), self.dimension)
        with writing_errors(self.folder):
            end = len(self._index)
            content = np.ascontiguousarray(features, np.float32).tobytes()
            append_named(
                Appended(self._rows, end * self._row_bytes, [content]),
                Appended(self._names, end * DIGEST_BYTES, digests),
            )
        self._index.update({d: end + i for i, d in enumerate(digests)})

    def rows(self, digests: Sequence[bytes], columns: int | None = None) -> StoredRows:
        """The rows of some images, in the given order, still on disk.

        Args:
            digests: Digests of stored images.
            columns: Number of leading columns; None for all.

        Returns:
            The rows.
        """
        positions = np.asarray([self._index[d] for d in digests], np.int64)
        return StoredRows(self._rows, positions, self.dimension, columns or self.dimension)

    @property
    def _row_bytes(self) -> int:
        return self.dimension * 4

    def _refresh(self) -> None:
        """Reads the digests that another run may have added."""
        if not self._names.exists() or not self._rows.exists():
            return
        names = self._names.read_bytes()
        complete = min(len(names) // DIGEST_BYTES, self._rows.stat().st_size // self._row_bytes)
        for row in range(len(self._index), complete):
            self._index[names[row * DIGEST_BYTES : (row + 1) * DIGEST_BYTES]] = row


class MemoryStore:
    """Feature rows of one run, where there is no disk to keep them on.

    Args:
        dimension: D, the number of features.
        kept: Rows that an earlier run left on disk.
    """

    def __init__(self, dimension: int, kept: FeatureStore | None = None) -> None:
        self.dimension, self._kept = dimension, kept
        self._found: dict[bytes, Features] = {}

    def missing(self, digests: Sequence[bytes]) -> list[int]:
        """As `FeatureStore.missing`."""
        wanted = range(len(digests)) if self._kept is None else self._kept.missing(digests)
        first = {digests[position]: position for position in reversed(wanted)}
        return sorted(position for digest, position in first.items() if digest not in self._found)

    def add(self, digests: Sequence[bytes], features: Features) -> None:
        """As `FeatureStore.add`."""
        self._found.update(zip(digests, features, strict=True))

    def rows(self, digests: Sequence[bytes], columns: int | None = None) -> Features:
        """As `FeatureStore.rows`, in memory.

        Args:
            digests: Digests of stored images.
            columns: Number of leading columns; None for all.

        Returns:
            float32, (n, D).
        """
        found = np.empty((len(digests), columns or self.dimension), np.float32)
        here = [place for place, digest in enumerate(digests) if digest in self._found]
        for place in here:
            found[place] = self._found[digests[place]][: found.shape[1]]
        rest = np.setdiff1d(np.arange(len(digests)), here)
        if self._kept is not None and len(rest):
            stored = self._kept.rows([digests[place] for place in rest], columns)
            found[rest] = stored[np.arange(len(rest))]
        return found


def store_lock(folder: Path) -> FileLock:
    """The lock of a store's folder, which is created if it does not exist."""
    _make(folder)
    return FileLock(folder / "lock")


def _make(folder: Path) -> None:
    with writing_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
