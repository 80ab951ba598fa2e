"""Decoded images kept on disk, memory-mapped, found by digest, shared by runs.

A cache, and never more: whatever happens to it (full, read-only, deleted while it is read), the
pixels are the same; they are only decoded again.
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
"""Of one image: digest, end of its pixels in the file in bytes, height, width, their sum."""
_SEGMENT_BYTES = 256_000_000
"""Bytes of a file after which a new one is begun: what is evicted is a whole file."""
_MAX_PENDING_BYTES = 16_000_000
"""Bytes held in memory before they are written in one go; a killed run loses so much at most."""
_MAX_MAPPED_BYTES = 64_000_000
"""Bytes read through one set of maps before it is given back, so that memory does not grow."""
_READAHEAD = 65_536
"""Bytes that Linux maps around each one that is asked for."""
_IN_USE_S = 600.0
"""What was used in the last ten minutes may belong to a run that is working: not evicted."""
_TOUCH_S = 60.0
_MAX_IMAGE_BYTES = 16_000_000
"""Bytes of one image; a panorama beyond it is decoded each time."""
_MIN_FREE_BYTES = GB
"""Bytes of the disk that are left to others."""
_LOCK_TIMEOUT_S = 10.0
"""Longest wait for another run that is writing; it writes for a fraction of a second."""


@dataclass
class _Entry:
    """Where the pixels of one image stand, and whether they are what was written."""

    segment: "_Segment"
    start: int
    height: int
    width: int
    checksum: int
    checked: bool = False

    def read(self) -> Pixels:
        """The pixels, checked the first time: a power failure may have lost what was written."""
        found = self.segment.pixels(self)
        if not self.checked:
            if _checksum(found) != self.checksum:
                raise ValueError("these are not the pixels that were written")
            self.checked = True
        return found


@dataclass(eq=False)
class _Segment:
    """One file of pixels, and the file of their names."""

    rows: Path
    names: Path
    end: int = 0
    entry_count: int = 0
    map: mmap.mmap | None = None
    touched: float = 0.0

    def read_new(self) -> Iterator[tuple[bytes, _Entry]]:
        """What was added since the last look; only images whose pixels are all there."""
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
                # Pages are shared with the disk cache until somebody writes to them; nobody does.
                found = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
            self.map = found
        flat = np.frombuffer(found, np.uint8, length, entry.start)
        return flat.reshape(entry.height, entry.width, 3)

    def touch(self) -> None:
        """Tells other runs, once a minute, that this file is in use."""
        now = time.monotonic()
        if now - self.touched > _TOUCH_S:
            self.touched = now
            os.utime(self.names)


@dataclass
class PixelCache:
    """Images of one kind, for the threads of one run; other runs may share the folder.

    Attributes:
        folder: Of all kinds: what is bounded.
        key: Stands for all that determines the pixels but the image.
        max_bytes: Bytes that all kinds may take together.
        disabled_reason: Why no more is kept, in one sentence; None while all is well.
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
        """Finds what earlier runs left."""
        self._guarded(self._load_new_entries)

    def get(self, digest: bytes) -> Pixels | None:
        """The pixels of one image.

        Args:
            digest: Of its file, 16 bytes.

        Returns:
            uint8, (H, W, 3), a view that must not be written to; None where it is not kept.
        """
        entry = self._index.get(digest)
        if entry is None:
            return None
        try:
            entry.segment.touch()
            found = entry.read()
        except (OSError, ValueError):  # evicted, cut off or spoilt
            self._index.pop(digest, None)
            return None
        self._bytes_read += found.nbytes + _READAHEAD
        if self._bytes_read > _MAX_MAPPED_BYTES:
            self._bytes_read = 0
            for segment in list(self._segments.values()):
                segment.map = None  # freed with the last view of it
        return found

    def put(self, digest: bytes, pixels: Pixels) -> None:
        """Keeps the pixels of one image, soon.

        Args:
            digest: Of its file, 16 bytes.
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
        """Writes what is not written yet; until then other runs do not see it."""
        with self._writing:
            with self._lock:  # not held while writing: other threads go on
                pending, self._pending, self._pending_bytes = self._pending, {}, 0
            if pending and self.disabled_reason is None:
                self._guarded(lambda: self._write(pending))

    @property
    def _key_folder(self) -> Path:
        return self.folder / self.key

    def _guarded(self, work: Callable[[], None]) -> None:
        """A cache that cannot be kept is gone on without."""
        try:
            work()
        except (OSError, NotImplementedError) as error:  # filelock's, where a disk knows no locks
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
            except FileNotFoundError:  # evicted between the two looks
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
            return  # these few are decoded once more

    def _append(self, new: Mapping[bytes, Pixels]) -> None:
        size = min(_SEGMENT_BYTES, self.max_bytes // 4)
        open_ones = [s for s in self._segments.values() if s.end < size]
        if open_ones:
            segment = open_ones[0]
        else:
            name = uuid.uuid4().hex  # never used again: an evicted file does not come back
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
        """Makes room, the longest unused files first, whatever their kind; under the lock."""
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
    """What pages that were lost or cut change, in a tenth of the time that a CRC-32 takes."""
    flat = pixels.reshape(-1)
    whole = len(flat) - len(flat) % 4
    words = flat[:whole].view("<u4")
    # Modulo 2**32 - 1, every change of a single word or byte shows.
    return (int(words.sum(dtype=np.uint64)) + int(flat[whole:].sum())) % (2**32 - 1)


def _removed(names: Path) -> bool:
    """Takes a file of pixels away; names first, since pixels without names are found by nobody."""
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
