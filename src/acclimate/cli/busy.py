"""Says once that the machine is busy, while a command shows its progress."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from acclimate.cpu import OtherWork, core_count, is_busy
from acclimate.progress import Progress, Task

_FIRST_S = 1.0
"""Seconds until the first look; PyTorch's import takes three."""
_EVERY_S = 5.0
"""Seconds between two looks. One takes less than 10 ms, with 500 processes on the machine."""


class BusyNotice:
    """Passes progress on, and adds a line if other processes keep the machine busy.

    Args:
        inner: What shows the progress.
        others: Measures what other processes take.
    """

    def __init__(self, inner: Progress, others: OtherWork) -> None:
        self._inner, self._others = inner, others
        self._next: float | None = time.monotonic() + _FIRST_S

    def info(self, text: str) -> None:
        """Shows one line."""
        self._inner.info(text)
        self.look()

    @contextmanager
    def task(self, name: str, total: int, unit: str = "images") -> Iterator[Task]:
        """Opens a piece of work of known size."""
        with self._inner.task(name, total, unit) as task:
            yield _WatchedTask(task, self)

    def look(self) -> None:
        """Looks whether the machine is busy, if the last look is some seconds ago."""
        if self._next is None or time.monotonic() < self._next:
            return
        taken = self._others.cores()
        self._next = time.monotonic() + _EVERY_S
        if taken is not None and is_busy(taken):
            self._next = None
            self._inner.info(
                f"The machine is busy: other processes take {taken:.1f} of {core_count()} cores. "
                "Everything takes longer, and measured latencies are not reliable."
            )


class _WatchedTask:
    def __init__(self, inner: Task, notice: BusyNotice) -> None:
        self._inner, self._notice = inner, notice

    def advance(self, done: int = 1) -> None:
        """Counts more parts as done."""
        self._inner.advance(done)
        self._notice.look()

    def note(self, text: str) -> None:
        """Shows a short text about the present state."""
        self._inner.note(text)
