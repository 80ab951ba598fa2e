"""An on-disk cache of decoded images, memory-mapped, keyed by digest and shared by runs.

The cache never changes results: if it is full, read-only or deleted while it is read, images are
decoded again and the pixels are the same.
"""

import mmap
import os
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from acclimate.data.images.contract import Pixels
from acclimate.files import DIGEST_BYTES, Appended, append_named, free_bytes

GB = 1_000_000_000
_NAME = struct.Struct(f"<{DIGEST_BYTES}sQIII")
"""One image: digest, end offset of its pixels in bytes, height, width, checksum."""
_SEGMENT_BYTES = 256_000_000
"""Bytes after which a new file is started. Whole files are evicted."""
_MAX_PENDING_BYTES = 16_000_000
"""Bytes buffered before they are written together. A killed run loses at most this much."""
_MAX_MAPPED_BYTES = 64_000_000
"""Bytes read before the memory maps are closed, so that memory does not grow."""
_READAHEAD = 65_536
"""Bytes that Linux maps around each access."""
_IN_USE_S = 600.0
"""Files used in the last ten minutes may belong to an active run and are not evicted."""
_TOUCH_S = 60.0
_MAX_IMAGE_BYTES = 16_000_000
"""Largest cached image in bytes. A larger one, such as a panorama, is decoded each time."""
_MIN_FREE_BYTES = GB
"""Bytes of disk space that stay free."""
_LOCK_TIMEOUT_S = 10.0
"""Longest wait for another run's lock; it writes for a fraction of a second."""


@dataclass
class _Entry:
    """The location of one image's pixels, and whether they were verified."""

    segment: "_Segment"
    start: int
    height: int
    width: int
    checksum: int
    checked: bool = False

    def read(self) -> Pixels:
        """The pixels, verified at the first read, since a power failure may have damaged them."""
        found = self.segment.pixels(self)
        if not self.checked:
            if _checksum(found) != self.checksum:
                raise ValueError("these are not the pixels that were written")
            self.checked = True
        return found


@dataclass(eq=False)
class _Segment:
    """One file of pixels and its index file."""

    rows: Path
    names: Path
    end: int = 0
    entry_count: int = 0
    map: mmap.mmap | None = None
    touched: float = 0.0

    def read_new(self) -> Iterator[tuple[bytes, _Entry]]:
        """New entries since the last call; only images whose pixels are complete."""
        with self.names.open("rb") as stream:
            stream.seek(self.entry_count * _NAME.size)
            content = stream.read()
        size = self.rows.stat().st_size
        whole = len(content) - len(content) % _NAME.size
        for digest, end, height, width, total in _NAME.iter_unpack(content[:whole]):
            if end > size or end - self.end != height * width * 3:
                return
            yield digest, _Entry(self, self.end, height, width, total)
            self.end, self.entry_count = end, self.entry_count + 1

    def pixels(self, entry: _Entry) -> Pixels:
        """uint8, (H, W, 3): a view of the file."""
        found, length = self.map, entry.height * entry.width * 3
        if found is None or len(found) < entry.start + length:
            with self.rows.open("rb") as stream:
                # Copy-on-write: pages are shared with the page cache, since nobody writes to them.
                found = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
            self.map = found
        flat = np.frombuffer(found, np.uint8, length, entry.start)
        return flat.reshape(entry.height, entry.width, 3)

    def touch(self) -> None:
        """Marks the file as in use for other runs, at most once a minute."""
        now = time.monotonic()
        if now - self.touched > _TOUCH_S:
            self.touched = now
            os.utime(self.names)


@dataclass
class PixelCache:
    """Cached images of one form; thread-safe, and the folder may be shared by runs.

    Attributes:
        folder: The cache folder, for all forms.
        key: Identifies everything that determines the pixels except the image.
        max_bytes: The largest size of the folder.
        disabled_reason: Why nothing more is cached, in one sentence; None if it is.
    """

    folder: Path
    key: str
    max_bytes: int
    disabled_reason: str | None = None
    _index: dict[bytes, _Entry] = field(default_factory=dict)
    _segments: dict[str, _Segment] = field(default_factory=dict)
    _pending: dict[bytes, Pixels] = field(default_factory=dict)
    _pending_bytes: int = 0
    _bytes_read: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Loads the index of earlier runs."""
        self._guarded(self._load_new_entries)

    def get(self, digest: bytes) -> Pixels | None:
        """Looks up the pixels of one image.

        Args:
            digest: The file's digest, 16 bytes.

        Returns:
            uint8, (H, W, 3), a view that must not be written to; None if it is not cached.
        """
        entry = self._index.get(digest)
        if entry is None:
            return None
        try:
            entry.segment.touch()
            found = entry.read()
        except (OSError, ValueError):  # evicted, truncated or damaged
            self._index.pop(digest, None)
            return None
        self._bytes_read += found.nbytes + _READAHEAD
        if self._bytes_read > _MAX_MAPPED_BYTES:
            self._bytes_read = 0
            for segment in list(self._segments.values()):
                segment.map = None  # freed with the last view of it
        return found

    def put(self, digest: bytes, pixels: Pixels) -> None:
        """Adds the pixels of one image; they are written later.

        Args:
            digest: The file's digest, 16 bytes.
            pixels: uint8, (H, W, 3); not changed afterwards by the caller.
        """
        if (
            self.disabled_reason is not None
            or pixels.nbytes > _MAX_IMAGE_BYTES
            or digest in self._index
        ):
            return
        with self._lock:
            if digest not in self._pending:
                self._pending[digest] = np.ascontiguousarray(pixels)
                self._pending_bytes += pixels.nbytes
            full = self._pending_bytes > min(_MAX_PENDING_BYTES, self.max_bytes // 8)
        if full:
            self.flush()

    def flush(self) -> None:
        """Writes pending images; other runs see them only then."""
        with self._writing:
            with self._lock:  # not held while writing, so that other threads continue
                pending, self._pending, self._pending_bytes = self._pending, {}, 0
            if pending and self.disabled_reason is None:
                self._guarded(lambda: self._write(pending))

    @property
    def _key_folder(self) -> Path:
        return self.folder / self.key

    def _guarded(self, work: Callable[[], None]) -> None:
        """Runs some work; if it fails, the cache is disabled and the run continues."""
        try:
            work()
        except (OSError, NotImplementedError) as error:  # from filelock, if the disk has no locks
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            self.disabled_reason = f"pixel cache {self.folder}: {reason}; images are decoded again"

    def _load_new_entries(self) -> None:
        there = {path.stem for path in self._key_folder.glob("*.names")}
        for name in self._segments.keys() - there:
            gone = self._segments.pop(name)
            self._index = {d: p for d, p in self._index.items() if p.segment is not gone}
        for name in sorted(there):
            segment = self._segments.setdefault(
                name,
                _Segment(self._key_folder / f"{name}.rows", self._key_folder / f"{name}.names"),
            )
            try:
                self._index.update(segment.read_new())
            except FileNotFoundError:  # evicted in between
                continue

    def _write(self, pending: Mapping[bytes, Pixels]) -> None:
        self._key_folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / "lock", timeout=_LOCK_TIMEOUT_S):
                self._load_new_entries()  # another run may have added the same images
                new = {d: p for d, p in pending.items() if d not in self._index}
                if new and self._make_room(sum(p.nbytes + _NAME.size for p in new.values())):
                    self._append(new)
                    self._load_new_entries()
        except Timeout:
            return  # these few are decoded again

    def _append(self, new: Mapping[bytes, Pixels]) -> None:
        size = min(_SEGMENT_BYTES, self.max_bytes // 4)
        open_ones = [s for s in self._segments.values() if s.end < size]
        if open_ones:
            segment = open_ones[0]
        else:
            name = uuid.uuid4().hex  # names are never reused, so an evicted file does not come back
            segment = _Segment(
                self._key_folder / f"{name}.rows", self._key_folder / f"{name}.names"
            )
        end, names = segment.end, []
        for digest, pixels in new.items():
            end += pixels.nbytes
            names.append(_NAME.pack(digest, end, *pixels.shape[:2], _checksum(pixels)))
        append_named(
            Appended(segment.rows, segment.end, (p.data.cast("B") for p in new.values())),
            Appended(segment.names, segment.entry_count * _NAME.size, names),
        )

    def _make_room(self, new_bytes: int) -> bool:
        """Evicts the least recently used files of all forms; requires the lock."""
        sizes = {names: _size(names) for names in self.folder.glob("*/*.names")}
        used = sum(sizes.values())
        now = time.time()
        for names in sorted(sizes, key=_last_use):
            if (
                used + new_bytes <= self.max_bytes
                and free_bytes(self.folder) - new_bytes >= _MIN_FREE_BYTES
            ):
                break
            if now - _last_use(names) < _IN_USE_S:
                break
            if _removed(names):
                used -= sizes[names]
        if used + new_bytes > self.max_bytes:
            self.disabled_reason = (
                f"pixel cache {self.folder}: {self.max_bytes / GB:g} GB are full; "
                "further images are decoded again"
            )
        elif free_bytes(self.folder) - new_bytes < _MIN_FREE_BYTES:
            self.disabled_reason = (
                f"pixel cache {self.folder}: less than {_MIN_FREE_BYTES / GB:g} GB is free on "
                "the disk; further images are decoded again"
            )
        return self.disabled_reason is None


def _checksum(pixels: Pixels) -> int:
    """A checksum that detects lost and truncated pages, ten times as fast as a CRC-32."""
    flat = pixels.reshape(-1)
    whole = len(flat) - len(flat) % 4
    words = flat[:whole].view("<u4")
    # Modulo 2**32 - 1, every change of a single word or byte is detected.
    return (int(words.sum(dtype=np.uint64)) + int(flat[whole:].sum())) % (2**32 - 1)


def _removed(names: Path) -> bool:
    """Deletes a file of pixels; its index first, since pixels without an index are never read."""
    try:
        names.unlink(missing_ok=True)
        names.with_suffix(".rows").unlink(missing_ok=True)
    except OSError:  # Windows keeps what another run has mapped
        return False
    return True


def _size(names: Path) -> int:
    rows = names.with_suffix(".rows")
    return sum(p.stat().st_size for p in (names, rows) if p.exists())


def _last_use(names: Path) -> float:
    return names.stat().st_mtime if names.exists() else 0.0
