"""How a stage tells what it is doing, without knowing where it is read."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

log = logging.getLogger("acclimate")

_LINE_EVERY_S = 10.0
"""In a log, one line of progress every ten seconds says enough and fills no disk."""


class Task(Protocol):
    """One counted piece of work."""

    def advance(self, done: int = 1) -> None:
        """Counts some more of it as done."""

    def note(self, text: str) -> None:
        """Says something short about the present state, such as the loss."""


class Progress(Protocol):
    """Receives what a stage tells."""

    def info(self, text: str) -> None:
        """One line worth keeping."""

    @contextmanager
    def task(self, name: str, total: int, unit: str = "images") -> Iterator[Task]:
        """Opens a counted piece of work of known size."""
        ...  # pragma: no cover


class _SilentTask:
    def advance(self, done: int = 1) -> None:
        """Counts nothing."""

    def note(self, text: str) -> None:
        """Says nothing."""


class SilentProgress:
    """Says nothing: the default from Python."""

    def info(self, text: str) -> None:
        """Says nothing."""

    @contextmanager
    def task(self, name: str, total: int, unit: str = "images") -> Iterator[Task]:
        """Counts nothing."""
        yield _SilentTask()


class _LogTask:
    def __init__(self, name: str, total: int, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done, self.text = 0, ""
        self.start = self.last = time.monotonic()

    def advance(self, done: int = 1) -> None:
        """Counts, and writes a line when ten seconds have passed."""
        self.done += done
        now = time.monotonic()
        if now - self.last >= _LINE_EVERY_S:
            self.last = now
            log.info(self._line(now))

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


class LogProgress:
    """Plain lines through `logging`, for a file or a pipe."""

    def info(self, text: str) -> None:
        """Logs the line."""
        log.info(text)

    @contextmanager
    def task(self, name: str, total: int, unit: str = "images") -> Iterator[Task]:
        """Logs a line every ten seconds, and the whole time if it was long."""
        task = _LogTask(name, total, unit)
        yield task
        seconds = time.monotonic() - task.start
        if seconds > 2:
            log.info(f"{name}: {task.done:,} {unit} in {seconds:,.1f} s")


class OnlyBars:
    """Shows how far one of many trainings is, and leaves out what each of them says.

    Args:
        inner: What shows it.
    """

    def __init__(self, inner: Progress) -> None:
        self.inner = inner

    def info(self, text: str) -> None:
        """Says nothing."""

    @contextmanager
    def task(self, name: str, total: int, unit: str = "images") -> Iterator[Task]:
        """As the inner one does."""
        with self.inner.task(name, total, unit) as task:
            yield task


silent = SilentProgress()
