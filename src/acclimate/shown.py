"""How results look where Python shows them: one line in a shell, a small table in a notebook."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from acclimate.errors import DataError

if TYPE_CHECKING:
    import pandas


class Shown:
    """A value that is shown as a few words, and not with all that it holds."""

    def summary(self) -> dict[str, str]:
        """What identifies the value, in words: name to text."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """One line."""
        return f"{type(self).__name__}({', '.join(self.summary().values())})"

    def _repr_html_(self) -> str:
        """A small table, as notebooks show it."""
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>"
            for name, text in self.summary().items()
        )
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"


def as_frame(rows: Sequence[Mapping[str, Any]]) -> "pandas.DataFrame":
    """Rows as a table of pandas.

    Args:
        rows: Name to value, for each row.

    Returns:
        The table.

    Raises:
        DataError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise DataError("pandas is not installed.", hint="Run pip install pandas.") from error
    return pandas.DataFrame([dict(row) for row in rows])
