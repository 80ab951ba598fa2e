"""The report's section on the compression search: what was tried, and what it cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from acclimate.reporting.page import render


@dataclass(frozen=True)
class CompressionResult:
    """What a compression search found.

    Attributes:
        sentence: What was chosen and why.
        rows: The lines of its table, column to text; empty where nothing was measured.
        picture: Accuracy against latency, as SVG.
    """

    sentence: str
    rows: Sequence[Mapping[str, str]]
    picture: str


def candidates_section(found: CompressionResult) -> str:
    """The section as HTML.

    Args:
        found: The choice, the table and the picture.

    Returns:
        One `section` element.
    """
    compared = [row for row in found.rows if row["drop"]]
    return render(
        "candidates.html",
        sentence=found.sentence,
        picture=found.picture,
        compared=[_figures(row) for row in compared],
        others=[_figures(row) for row in found.rows if not row["drop"]],
    )


def _figures(row: Mapping[str, str]) -> dict[str, object]:
    """The texts of a line as numbers; None where there is none."""
    words = ("candidate", "chosen", "pareto", "busy")
    return {
        name: text if name in words else float(text) if text else None for name, text in row.items()
    }
