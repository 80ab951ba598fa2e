"""Keeps freed memory in the process during training, because the next step needs it again."""

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt` (malloc.h)."""
_MB = 2**20
_NEVER = 2**31 - 1
_USUAL_MMAP, _USUAL_TRIM = 32 * _MB, 64 * _MB
"""Thresholds of glibc after a large block was freed once (mallopt(3))."""

_lock = threading.Lock()
_trainings = 0


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keeps memory that PyTorch frees on a CPU in the process.

    Otherwise glibc returns each freed block of more than 32 MB to the system, and every step maps
    its pages again, which takes a third of the training time at 224 px. All free memory is returned
    at the end. Without glibc nothing happens.

    Yields:
        None: Nothing.
    """
    global _trainings
    with _lock:
        _trainings += 1
        _set_thresholds(_NEVER, _NEVER)
    try:
        yield
    finally:
        with _lock:
            _trainings -= 1
            if not _trainings:
                _set_thresholds(_USUAL_MMAP, _USUAL_TRIM)
                if give_back := _glibc("malloc_trim"):
                    give_back(0)


def _set_thresholds(mmap_threshold: int, trim_threshold: int) -> None:
    if mallopt := _glibc("mallopt"):
        mallopt(_MMAP_THRESHOLD, mmap_threshold)
        mallopt(_TRIM_THRESHOLD, trim_threshold)


def _glibc(name: str) -> Callable[..., int] | None:
    """One of the functions of malloc.h; None in another C library."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return None
    # musl has neither; only glibc has both of them.
    found: Callable[..., int] | None = getattr(library, name, None)
    return found if hasattr(library, "gnu_get_libc_version") else None
