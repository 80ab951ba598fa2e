"""Messages and progress of a stage, whoever reads them."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

log = logging.getLogger("acclimate")

_LINE_EVERY_S = 10.0
"""Seconds between two lines of progress in a log."""


class Task(Protocol):
    """A piece of work whose parts are counted."""

    def advance(self, done: int = 1) -> None:
        """Counts more parts as done."""

    def note(self, text: str) -> None:
        """Shows a short text about the present state, such as the loss."""


class Progress(Protocol):
    """Receives messages and progress."""

    def info(self, text: str) -> None:
        """Shows one line."""

    @contextmanager
    def task(self, name: str, total: int, unit: str = "images") -> Iterator[Task]:
        """Opens a piece of work of known size."""
        ...  # pragma: no cover


class _SilentTask:
    def advance(self, done: int = 1) -> None:
        """Does nothing."""

    def note(self, text: str) -> None:
        """Does nothing."""


class SilentProgress:
    """Shows nothing."""

    def info(self, text: str) -> None:
        """Does nothing."""

    @contextmanager
    def task(self, name: str, total: int, unit: str = "images") -> Iterator[Task]:
        """Does nothing."""
        yield _SilentTask()


class _LineTask:
    def __init__(self, name: str, total: int, unit: str, show: Callable[[str], None]) -> None:
        self.name, self.total, self.unit, self.show = name, total, unit, show
        self.done, self.text = 0, ""
        self.start = self.last = time.monotonic()

    def advance(self, done: int = 1) -> None:
        """Counts, and shows a line every ten seconds."""
        self.done += done
        now = time.monotonic()
        if now - self.last >= _LINE_EVERY_S:
            self.last = now
            self.show(self._line(now))

    def note(self, text: str) -> None:
        """Keeps the text for the next line."""
        self.text = text

    def _line(self, now: float) -> str:
        rate = self.done / max(now - self.start, 1e-9)
        left = (self.total - self.done) / rate if rate > 0 else 0.0
        tail = f", {self.text}" if self.text else ""
        return (
            f"{self.name}: {self.done:,} of {self.total:,} {self.unit}, "
            f"{rate:,.0f}/s, {left:,.0f} s left{tail}"
        )


class LineProgress:
    """Plain lines.

    Args:
        show: Shows one line.
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        self.show = show

    def info(self, text: str) -> None:
        """Shows the line."""
        self.show(text)

    @contextmanager
    def task(self, name: str, total: int, unit: str = "images") -> Iterator[Task]:
        """Shows a line every ten seconds, and the total time if it was long."""
        task = _LineTask(name, total, unit, self.show)
        yield task
        seconds = time.monotonic() - task.start
        if seconds > 2:
            self.show(f"{name}: {task.done:,} {unit} in {seconds:,.1f} s")


class LogProgress(LineProgress):
    """Plain lines through `logging`, for a file or a pipe."""

    def __init__(self) -> None:
        super().__init__(log.info)


class OnlyBars:
    """Shows the progress of many trainings, without their messages.

    Args:
        inner: What shows the progress.
    """

    def __init__(self, inner: Progress) -> None:
        self.inner = inner

    def info(self, text: str) -> None:
        """Does nothing."""

    @contextmanager
    def task(self, name: str, total: int, unit: str = "images") -> Iterator[Task]:
        """Opens a piece of work of the inner progress."""
        with self.inner.task(name, total, unit) as task:
            yield task


silent = SilentProgress()
