"""The check that decodes every file: drops those that fail and measures all others."""

from dataclasses import fields
from typing import Any

import numpy as np

from acclimate.cleaning.duplicates.perceptual_hash import FLAT, detail_hashes, hashes
from acclimate.cleaning.findings import Check
from acclimate.cleaning.scan.image_stats import THUMBNAIL, ImageStats
from acclimate.cleaning.scan.parallel import measure_images
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import Dataset


def unreadable(dataset: Dataset, settings: Clean, context: Context) -> Dataset:
    """Reads and decodes every file once; a broken file is dropped and does not stop the run.

    Args:
        dataset: As listed.
        settings: The limits on size.
        context: The run.

    Returns:
        The data set with the columns of `ImageStats` filled (brightness and the like if
        `quality` is among the checks), and `keep` false where a file failed.
    """
    rows = np.flatnonzero(dataset.keep).tolist()
    names = (*_STATS_COLUMNS, *_HASHES, "keep", "reasons")
    columns = {name: dataset.table[name].to_pylist() for name in names}
    with context.progress.task("clean", len(rows)) as task:
        with_quality = "quality" in settings.checks
        measured = measure_images(
            [dataset.path(row) for row in rows], settings, with_quality=with_quality
        )
        for row, stats in zip(rows, measured, strict=True):
            for name in _STATS_COLUMNS:
                columns[name][row] = getattr(stats, name)
            if stats.reason is not None:
                columns["keep"][row] = False
                columns["reasons"][row] = [*columns["reasons"][row], stats.reason]
            task.advance()
    _add_hashes(columns)
    return dataset.with_columns(columns)


def _add_hashes(columns: dict[str, list[Any]]) -> None:
    """Fills the perceptual hashes; rows that were dropped before keep theirs."""
    rows = [row for row, thumbnail in enumerate(columns["thumbnail"]) if thumbnail is not None]
    together = b"".join(columns["thumbnail"][row] for row in rows)
    thumbnails = np.frombuffer(together, np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL)
    # All flat images would be copies of each other by the details, which are noise in them.
    flat = (thumbnails.std((1, 2)) < FLAT).tolist()
    both = zip(hashes(thumbnails).tolist(), detail_hashes(thumbnails).tolist(), strict=True)
    for row, is_flat, (low, details) in zip(rows, flat, both, strict=True):
        columns["phash"][row] = low
        columns["phash_details"][row] = None if is_flat else details


_STATS_COLUMNS = tuple(field.name for field in fields(ImageStats) if field.name != "reason")
_HASHES = ("phash", "phash_details")

CHECK = Check(unreadable, flags=(), writes=(*_STATS_COLUMNS, *_HASHES, "keep", "reasons"))
