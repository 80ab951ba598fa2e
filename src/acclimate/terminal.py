"""Output on a terminal: progress bars, tables, errors."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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
from rich.table import Table

from acclimate.errors import AcclimateError
from acclimate.progress import Task

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


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table to standard output.

    Args:
        title: The title above the table.
        columns: Names; columns of numbers are aligned right.
        rows: Rows of cells.
    """
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, name in enumerate(columns):
        numbers = all(not row[index] or row[index][0] in "+-0123456789" for row in rows)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    # A pipe has no width: rich would wrap the lines at 80 columns.
    width = None if sys.stdout.isatty() else 160
    Console(highlight=False, width=width).print(table)


def print_lines(lines: Sequence[str]) -> None:
    """Prints plain lines to standard output."""
    for line in lines:
        sys.stdout.write(f"{line}\n")


def print_error(error: AcclimateError) -> None:
    """Prints an error to standard error: what, where, what to do."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold red]error:[/] {escape(str(error))}")
