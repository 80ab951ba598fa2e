"""Freed memory that the process keeps while it trains: the next step needs the same again."""

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""What glibc's `mallopt` calls them (malloc.h)."""
_MB = 2**20
_NEVER = 2**31 - 1
_USUAL_MMAP, _USUAL_TRIM = 32 * _MB, 64 * _MB
"""Where glibc's own thresholds are after a large block was freed once (mallopt(3))."""

_lock = threading.Lock()
_trainings = 0


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """While it lasts, what PyTorch frees on a CPU stays with the process.

    A block of more than 32 MB is otherwise given back to the system as soon as it is freed, and
    each step pays for fetching its pages anew: at 224 px a third of the training time. Afterwards
    all that is free is given back. Only glibc is told; elsewhere nothing happens.

    Yields:
        None: Nothing.
    """
    global _trainings
    with _lock:
        _trainings += 1
        _tell(_NEVER, _NEVER)
    try:
        yield
    finally:
        with _lock:
            _trainings -= 1
            if not _trainings:
                _tell(_USUAL_MMAP, _USUAL_TRIM)
                if give_back := _glibc("malloc_trim"):
                    give_back(0)


def _tell(mmap_threshold: int, trim_threshold: int) -> None:
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
