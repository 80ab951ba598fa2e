"""Output on a terminal: tables, lines, errors."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from acclimate.bars import TerminalProgress as TerminalProgress
from acclimate.errors import AcclimateError


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
