"""The check that decodes every file: drops those that fail and measures all others."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from acclimate.cleaning.duplicates.perceptual_hash import FLAT, detail_hashes, hashes, stacked
from acclimate.cleaning.findings import Check, with_note
from acclimate.cleaning.scan.image_stats import ImageStats
from acclimate.cleaning.scan.parallel import measure_images
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.data.images.decode import SUFFIXES
from acclimate.data.images.samples import BITS, WIDE_COLORS
from acclimate.errors import count

_DEPTHS = (8, 10, 12, 14, BITS)
"""Bits that cameras and X-ray detectors have. A number between them would only fit this sample."""


def unreadable(dataset: Dataset, settings: Clean, context: Context) -> Dataset:
    """Reads and decodes every file once; a broken file is dropped and does not stop the run.

    Images of 16 bits are measured again if the largest of their samples shows that they have
    fewer bits, so that all are seen in one range, as training sees them.

    Args:
        dataset: As listed.
        settings: The limits on size.
        context: The run.

    Returns:
        The data set with the columns of `ImageStats` filled (brightness and the like if
        `quality` is among the checks), `bits` found, and `keep` false where a file failed.
    """
    rows = np.flatnonzero(dataset.keep).tolist()
    found = _Found(dataset)
    with context.progress.task("clean", len(rows)) as task:
        measured = _measured(dataset, rows, settings, dataset.bits or BITS)
        for row, stats in zip(rows, measured, strict=True):
            found.add(row, stats)
            task.advance()
    bits = _bits(list(found.peaks.values()), dataset.bits)
    if bits is not None and bits != (dataset.bits or BITS):
        wide = list(found.peaks)
        for row, stats in zip(wide, _measured(dataset, wide, settings, bits), strict=True):
            found.fill(row, stats)
    for sentence in [*_lines_on_bits(list(found.peaks.values()), bits), *found.lines()]:
        dataset = with_note(dataset, sentence)
    _add_hashes(found.columns)
    return replace(dataset.with_columns(found.columns), bits=bits)


class _Found:
    """What the scan found: the columns, and what a person should know of the files.

    Args:
        dataset: As listed; its columns are the start.
    """

    def __init__(self, dataset: Dataset) -> None:
        names = (*_STATS_COLUMNS, *_HASHES, "keep", "reasons")
        self.columns = {name: dataset.table[name].to_pylist() for name in names}
        self.peaks: dict[int, int] = {}
        """Row to the largest sample, for 16-bit grey images."""
        self._colors: list[int] = []
        self._grounds: Counter[str | None] = Counter()
        self._pages = self._animated = 0
        self._suffixes: Counter[str] = Counter()
        self._paths = dataset.paths

    def fill(self, row: int, stats: ImageStats) -> None:
        """Fills the columns of a row."""
        for name in _STATS_COLUMNS:
            self.columns[name][row] = getattr(stats, name)

    def add(self, row: int, stats: ImageStats) -> None:
        """Fills the columns of a row, and counts what is unusual about its file."""
        self.fill(row, stats)
        if stats.reason is not None:
            self.columns["keep"][row] = False
            self.columns["reasons"][row] = [*self.columns["reasons"][row], stats.reason]
        if stats.peak is not None and stats.mode == WIDE_COLORS:
            self._colors.append(stats.peak)
        elif stats.peak is not None:
            self.peaks[row] = stats.peak
        self._grounds[stats.ground] += 1
        self._pages += stats.pages
        self._animated += stats.animated
        if stats.format is not None:
            suffix = Path(self._paths[row]).suffix.lower()
            if SUFFIXES.get(suffix) != stats.format:
                self._suffixes[f"{suffix or 'no suffix'} is {stats.format}"] += 1

    def lines(self) -> list[str]:
        """What a person should know of suffixes, colors of 16 bits, transparency and pages."""
        lines = []
        if self._suffixes:
            images = count(self._suffixes.total(), "image has", "images have")
            most = ", ".join(f"{n:,} x {kind}" for kind, n in self._suffixes.most_common(3))
            lines.append(f"{images} another suffix than the content, which decides: {most}")
        if self._animated:
            lines.append(
                f"{count(self._animated, 'image is an animation', 'images are animations')}, of "
                "which the first picture is used"
            )
        if self._colors and 2 * max(self._colors) < 2**BITS:
            lines.append(
                f"{count(len(self._colors), 'image has', 'images have')} colors of 16 bits that "
                "use less than half of their range, and only the upper 8 bits are read: save them "
                "with 8 bits, scaled to the full range"
            )
        if black := self._grounds["black"]:
            lines.append(
                f"{count(black, 'transparent image is', 'transparent images are')} laid on black: "
                "what they show is too light to be seen on white"
            )
        if clear := self._grounds["clear"]:
            lines.append(
                f"{count(clear, 'image is', 'images are')} blank: every pixel is transparent"
            )
        if self._pages:
            lines.append(
                f"{count(self._pages, 'TIFF has', 'TIFFs have')} several pages, of which the first "
                "is used: save the others as files of their own to use them"
            )
        return lines


def _measured(
    dataset: Dataset, rows: list[int], settings: Clean, bits: int
) -> Iterator[ImageStats]:
    paths = [dataset.path(row) for row in rows]
    return measure_images(paths, settings, with_quality="quality" in settings.checks, bits=bits)


def _bits(peaks: Sequence[int], given: int | None) -> int | None:
    """The bits of 16-bit samples: those given, or the fewest that hold the largest sample."""
    if given is not None or not peaks:
        return given
    return next(bits for bits in _DEPTHS if max(peaks) < 2**bits)


def _lines_on_bits(peaks: Sequence[int], bits: int | None) -> list[str]:
    if not peaks or bits is None:
        return []
    images, largest, limit = count(len(peaks), "16-bit image"), max(peaks), 2**bits - 1
    usual = int(np.median(peaks))
    if largest > limit:
        clipped = sum(one > limit for one in peaks)
        return [
            f"{clipped:,} of {images} have samples above {limit:,}, the largest of {bits} bits "
            "(data.bits): these become white"
        ]
    if 2 * usual < limit:
        fewer = next(depth for depth in _DEPTHS if usual < 2**depth)
        advice = f"--set data.bits={fewer} reads them as {fewer} bits" if fewer < bits else ""
        return [
            f"half of {images} use at most {_fraction(usual, limit)} of the range of {bits} bits "
            f"(the largest sample of all is {largest:,}){': ' if advice else ''}{advice}"
        ]
    if bits < BITS:
        return [
            f"the samples of {images} use {_fraction(largest, 2**BITS - 1)} of their range "
            f"(largest {largest:,}) and are read as {bits} bits: data.bits sets another number"
        ]
    return []


def _fraction(part: int, whole: int) -> str:
    return f"1/{round(whole / max(part, 1)):,}"


def _add_hashes(columns: dict[str, list[Any]]) -> None:
    """Fills the perceptual hashes; rows that were dropped before keep theirs."""
    rows = [row for row, thumbnail in enumerate(columns["thumbnail"]) if thumbnail is not None]
    thumbnails = stacked(columns["thumbnail"][row] for row in rows)
    # All flat images would be copies of each other by the details, which are noise in them.
    flat = (thumbnails.std((1, 2)) < FLAT).tolist()
    both = zip(hashes(thumbnails).tolist(), detail_hashes(thumbnails).tolist(), strict=True)
    for row, is_flat, (low, details) in zip(rows, flat, both, strict=True):
        columns["phash"][row] = low
        columns["phash_details"][row] = None if is_flat else details


_NO_COLUMNS = ("reason", "peak", "ground", "pages", "animated")
_STATS_COLUMNS = tuple(field.name for field in fields(ImageStats) if field.name not in _NO_COLUMNS)
_HASHES = ("phash", "phash_details")

CHECK = Check(unreadable, flags=(), writes=(*_STATS_COLUMNS, *_HASHES, "keep", "reasons"))
