"""The table of the candidates of a compression search, and their folder."""

import csv
from pathlib import Path

_COLUMNS = ("candidate", "drop", "flips", "latency", "p95", "images/s", "size", "MACs")


def candidates_folder(out: Path) -> Path:
    """The folder of the candidates, beside the model that `compress` writes."""
    return out.absolute().with_name(f"{out.name}.candidates")


def print_candidates(folder: Path, *, as_json: bool) -> dict[str, str]:
    """Prints the candidates that were compared.

    Args:
        folder: Of the search.
        as_json: Whether the command prints JSON: then nothing is printed here.

    Returns:
        What the search left there, name to path.
    """
    from acclimate.compression.pareto import PICTURE, TABLE
    from acclimate.terminal import print_table

    if not as_json:
        with (folder / TABLE).open(encoding="utf-8") as lines:
            rows = [_cells(row) for row in csv.DictReader(lines) if row["drop"]]
        print_table("compared on val (* chosen)", _COLUMNS, rows)
    return {"candidates": str(folder / TABLE), "picture": str(folder / PICTURE)}


def _cells(row: dict[str, str]) -> list[str]:
    mark = " *" if row["chosen"] else ""
    drop, low, high = (float(row[name]) for name in ("drop", "drop_low", "drop_high"))
    original = not row["flips"]
    return [
        f"{row['candidate']}{mark}",
        "" if original else f"{drop:+.2f} [{low:+.2f}, {high:+.2f}]",
        "" if original else f"{float(row['flips']):.1%}",
        f"{float(row['p50_ms']):.2f} ms{' (busy machine)' if row['busy'] else ''}",
        f"{float(row['p95_ms']):.2f} ms",
        f"{float(row['images_per_s']):,.0f}",
        f"{int(row['size_bytes']) / 1e6:.1f} MB",
        f"{int(row['macs']) / 1e6:,.0f} M",
    ]
