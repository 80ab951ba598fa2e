"""The check for poor image quality: dark, bright, blank, blurred, odd shapes, grey."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acclimate.cleaning.findings import Check, Findings, Flag, with_note
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.errors import count

Mask = NDArray[np.bool_]
Columns = dict[str, NDArray[np.float64]]


def quality(dataset: Dataset, settings: Clean, context: Context) -> Dataset:
    """Flags images by their measured brightness, contrast, sharpness, size and color.

    A fault that a fifth of the images have is typical of the data: digits on black are dark,
    X-rays are grey. It is reported once, and no image is flagged. With the flag in `drop`, a
    fault is typical only if more than half of the images have it.

    Args:
        dataset: Measured by the `unreadable` check.
        settings: The thresholds, and which flags drop an image.
        context: The run.

    Returns:
        The data set with `flags` filled, and `keep` false for dropped images.
    """
    columns = {name: _numbers(dataset, name) for name in _READ}
    measured = dataset.keep & np.isfinite(columns["brightness"])
    findings = Findings(dataset, settings)
    if not measured.any():
        return dataset.with_columns(findings.columns())
    for fault in _FAULTS:
        name = fault.flag.name
        found = fault.find(columns, measured, settings) & measured
        share = found.sum() / measured.sum()
        if share > (_TYPICAL_IF_DROPPED if name in settings.drop else _TYPICAL):
            if name != "grey" or share <= _TYPICAL_IF_DROPPED:  # a grey data set surprises nobody
                dataset = with_note(dataset, _typical(name, found, measured))
            continue
        for row in np.flatnonzero(found):
            findings.add(int(row), name, _readable(name))
    return dataset.with_columns(findings.columns())


_TYPICAL, _TYPICAL_IF_DROPPED = 0.2, 0.5
"""Share of images with a fault above which it says how the data is, and nothing of an image."""


def _typical(name: str, found: Mask, measured: Mask) -> str:
    shown = f"{int(found.sum()):,} of {count(int(measured.sum()), 'image')}"
    return f"{shown} {_readable(name)}: typical of this data, not flagged"


_READ = ("brightness", "contrast", "sharpness", "color", "width", "height")


def _readable(name: str) -> str:
    return name.replace("_", " ")


def _numbers(dataset: Dataset, name: str) -> NDArray[np.float64]:
    return np.asarray(dataset.table[name].to_numpy(zero_copy_only=False), np.float64)


def _dark(columns: Columns, measured: Mask, settings: Clean) -> Mask:
    # Mean plus two standard deviations is close to the brightest level, so a lamp in the night
    # is not flagged.
    return columns["brightness"] + 2 * columns["contrast"] < settings.dark


def _bright(columns: Columns, measured: Mask, settings: Clean) -> Mask:
    return columns["brightness"] - 2 * columns["contrast"] > settings.bright


def _low_contrast(columns: Columns, measured: Mask, settings: Clean) -> Mask:
    return columns["contrast"] < settings.low_contrast


def _blurred(columns: Columns, measured: Mask, settings: Clean) -> Mask:
    # A blank image has no edges to measure, and has a flag of its own.
    return (columns["sharpness"] < settings.blurred) & ~_low_contrast(columns, measured, settings)


def _odd_aspect(columns: Columns, measured: Mask, settings: Clean) -> Mask:
    sides = np.stack([columns["width"], columns["height"]])
    return np.asarray(sides.max(0) > settings.odd_aspect * sides.min(0), bool)


def _odd_size(columns: Columns, measured: Mask, settings: Clean) -> Mask:
    side = np.sqrt(columns["width"] * columns["height"])
    median = float(np.median(side[measured]))
    found: Mask = (side > settings.odd_size * median) | (side < median / settings.odd_size)
    return found


def _grey(columns: Columns, measured: Mask, settings: Clean) -> Mask:
    return columns["color"] < settings.grey


@dataclass(frozen=True)
class _Fault:
    flag: Flag
    find: Callable[[Columns, Mask, Clean], Mask]
    """(columns, measured rows, settings) to the rows that have the fault."""


_FAULTS = (
    _Fault(Flag("dark", worst_by="brightness", lowest_first=True), _dark),
    _Fault(Flag("bright", worst_by="brightness"), _bright),
    _Fault(
        Flag("low_contrast", worst_by="contrast", lowest_first=True),
        _low_contrast,
    ),
    _Fault(Flag("blurred", worst_by="sharpness", lowest_first=True), _blurred),
    _Fault(Flag("odd_aspect", worst_by="aspect"), _odd_aspect),
    _Fault(Flag("odd_size", worst_by="size_off_median_by"), _odd_size),
    _Fault(Flag("grey", worst_by="color", lowest_first=True), _grey),
)
CHECK = Check(
    quality, flags=tuple(fault.flag for fault in _FAULTS), writes=("keep", "reasons", "flags")
)
