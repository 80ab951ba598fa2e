"""Writes lists of images with their labels, splits and groups."""

import csv
import io
import os
from pathlib import Path

from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.errors import count
from acclimate.files import write_atomic

LIST_DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""Suffixes of lists, and their delimiters."""
_HERE = Context()


def write_csv(dataset: Dataset, path: Path, *, context: Context = _HERE) -> int:
    """Writes a list of the kept images: `path`, `label`, `split`, `group`.

    Paths are relative to the list's folder; those of images outside it are absolute. Other test
    domains are not listed.

    Args:
        dataset: Cleaned.
        path: The list, `.csv` or `.tsv`; an existing file is replaced.
        context: The run.

    Returns:
        How many images were listed.

    Raises:
        OutputError: The place cannot be written.
    """
    columns = {n: dataset.table[n].to_pylist() for n in ("label", "split", "group")}
    root, folder = dataset.root.resolve(), path.parent.resolve()
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=LIST_DELIMITERS[path.suffix.lower()], lineterminator="\n")
    writer.writerow(["path", "label", "split", "group"])
    rows, outside = dataset.rows().tolist(), 0
    for row in rows:
        place = Path(os.path.normpath(root / dataset.paths[row]))
        inside = place.is_relative_to(folder)
        outside += not inside
        label, split, group = (columns[name][row] for name in ("label", "split", "group"))
        shown = place.relative_to(folder) if inside else place
        # An image without a label must be marked as unlabelled, or reading the list would fail.
        cells = (label, "unlabelled" if label is None else split, group)
        writer.writerow([shown.as_posix(), *(cell or "" for cell in cells)])
    write_atomic(path, buffer.getvalue())
    if outside:
        context.progress.info(
            f"copy: {count(outside, 'image')} outside the list's folder, listed by absolute path. "
            "Read the list with --set data.allow_outside=true."
        )
    return len(rows)
