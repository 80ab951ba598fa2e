"""Progress bars in a terminal, and lines in a notebook that cannot draw bars."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from acclimate.progress import LineProgress, Task

_SHOWN_AFTER_S = 1.0


class _BarTask:
    """One bar, which is shown only if the work takes more than a second."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self.progress, self.task = progress, task

    def advance(self, done: int = 1) -> None:
        """Moves the bar."""
        self.progress.advance(self.task, done)
        state = self.progress.tasks[self.progress.task_ids.index(self.task)]
        if not state.visible and (state.elapsed or 0) > _SHOWN_AFTER_S:
            self.progress.update(self.task, visible=True)
        if state.elapsed:
            self.progress.update(self.task, rate=f"{state.completed / state.elapsed:,.0f}/s")

    def note(self, text: str) -> None:
        """Shows a text behind the bar."""
        self.progress.update(self.task, note=text)


class TerminalProgress:
    """Bars with rate and time left, lines above them. Everything goes to standard error."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)

    def info(self, text: str) -> None:
        """Prints a line."""
        style = "bold" if text.startswith("──") else None
        self.console.print(escape(text), style=style, soft_wrap=True)

    @contextmanager
    def task(self, name: str, total: int, unit: str = "images") -> Iterator[Task]:
        """Draws a bar while the block runs."""
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{unit}  {{task.fields[rate]}}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            bar = progress.add_task(name, total=total, rate="", note="", visible=False)
            yield _BarTask(progress, bar)


def notebook_progress() -> TerminalProgress | LineProgress:
    """Bars in a Jupyter notebook; lines if it has no ipywidgets, which bars need."""
    if find_spec("ipywidgets") is not None:
        return TerminalProgress()
    return LineProgress(lambda text: print(text, file=sys.stderr, flush=True))
