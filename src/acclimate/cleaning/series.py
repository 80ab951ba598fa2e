"""Notices series: frames of a video, bursts, tracks, patches of one part, augmented copies.

Images of one series look alike, so a series in both train and test makes the test too easy. A
series is found by a part of the file names, and only if images with the same part look more alike
than others of their class: numbers, dates and class names alone prove nothing.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acclimate.cleaning.duplicates.perceptual_hash import stacked, standardized
from acclimate.data.dataset import SPLITS, Dataset, Rows
from acclimate.data.linked import is_own

_NUMBER, _REST = r"[^/\d]*\d+", r"[^/\d][^/]*\.\w+$"
_PATTERNS = (
    rf"({_NUMBER}){_REST}",  # 00003_00012, clip7_frame_0012, part3_x64_y128
    rf"({_NUMBER}[^/\d]+\d+){_REST}",  # cam2_clip7_0012
    rf"({_NUMBER}[^/\d]+\d+[^/\d]+\d+){_REST}",  # 2026-05-12_0001
    r"([^/\d]*[^/\d])\d+\.\w+$",  # kitchen_0012
    r"([^/]+)/[^/]+$",  # clip7/0012, in a folder of a class folder
    rf"(?:^|/){_NUMBER}[-_. ]([^/]+)\.\w+$",  # 0012_clip7
)
"""Regular expressions of file names; the group is the name of a series."""
_LONGEST_PATH = 512
"""Characters; longer paths are not looked at."""
_ANCHORS = 4000
"""Images that the evidence is measured on."""
_TRIES = 8
_ALIKE = 0.7
"""Share of images that look more like another one of their series than like one of another series.
Names that mean nothing had 0.43 to 0.57 on six sets."""
_LEAST_COVERED, _LEAST_SERIES = 0.5, 5
"""Share of the images that must be in series of at least two, and the number of series."""

Keys = NDArray[np.int64]
"""(N,): the number of each image's series; -1 if it has none."""


@dataclass(frozen=True)
class Series:
    """How the images come in series.

    Attributes:
        pattern: For the setting `data.group_from`.
        keys: int64, (N,): the series of each row; -1 if it has none.
        example: The name of a series.
    """

    pattern: str
    keys: Keys
    example: str


@dataclass(frozen=True)
class _Looks:
    """What images are compared by.

    Attributes:
        thumbnails: float32, (N, 256), of length 1.
        measures: float64, (N, M): brightness, color, sides and the like, as standard scores.
        labels: int64, (N,).
        rng: For the images that are compared.
    """

    thumbnails: NDArray[np.float32]
    measures: NDArray[np.float64]
    labels: NDArray[np.int64]
    rng: np.random.Generator


def find_series(dataset: Dataset, seed: int) -> Series | None:
    """Looks for series among the images, unless their groups are known.

    Args:
        dataset: Measured, with thumbnails.
        seed: For the images that are compared.

    Returns:
        The series, if most images are in some; None if there is no evidence of any.
    """
    measured = dataset.has("thumbnail") & is_own(dataset) & (dataset.labels >= 0)
    rows = np.flatnonzero(measured & ~dataset.has("group"))
    if not len(rows) or 2 * len(rows) < np.count_nonzero(measured):
        return None
    looks = _looks(dataset, rows, seed)
    paths = [dataset.paths[row] for row in rows]
    best, best_share = None, 0.0
    for pattern in _PATTERNS:
        in_folder = _in_folder(pattern)
        share = _evidence(_keys(in_folder or pattern, paths), looks)
        # The coarser of two patterns with like evidence keeps more together.
        if share > best_share + 0.02:
            best, best_share = pattern, share
    if best is None:
        return None
    pattern = _with_scope(best, paths, looks)
    keys = np.full(len(dataset), -1, np.int64)
    keys[rows] = _keys(pattern, paths)
    example = dataset.paths[int(np.flatnonzero(keys == np.bincount(keys[keys >= 0]).argmax())[0])]
    return Series(pattern, keys, _name(pattern, example) or "")


def shared_series(dataset: Dataset, series: Series) -> str | None:
    """Says that series are in more than one split.

    Args:
        dataset: Cleaned and split.
        series: Of its images.

    Returns:
        A sentence with what to do; None if no series is.
    """
    splits = {name: set(series.keys[dataset.rows(name)]) - {-1} for name in SPLITS}
    for first, second in (("train", "test"), ("train", "val"), ("val", "test")):
        both = splits[first] & splits[second]
        if both:
            sizes = np.bincount(series.keys[series.keys >= 0])
            size = int(np.median(np.repeat(sizes, sizes)))
            of = min(len(splits[first]), len(splits[second]))
            return (
                f"images seem to come in {len(sizes):,} series of about {size:,}, by their file "
                f"names and looks, such as {series.example!r}. {first} and {second} share "
                f"{len(both):,} of {of:,}: accuracy will be too high. Give a group column, or "
                f"--set 'data.group_from={series.pattern}'."
            )
    return None


def _looks(dataset: Dataset, rows: Rows, seed: int) -> _Looks:
    thumbnails = stacked(dataset.table["thumbnail"].take(rows).to_pylist())
    names = ("brightness", "contrast", "color", "sharpness", "width", "height")
    columns = [dataset.table[n].take(rows).to_numpy(zero_copy_only=False) for n in names]
    values = np.stack([np.asarray(column, np.float64) for column in columns], axis=1)
    values[:, -2:] = np.log(values[:, -2:])
    values = np.where(np.isfinite(values), values, 0.0)
    deviations = np.maximum(values.std(0), 1e-6)
    return _Looks(
        standardized(thumbnails),
        (values - values.mean(0)) / deviations,
        dataset.labels[rows],
        np.random.default_rng(seed),
    )


def _name(pattern: str, path: str) -> str | None:
    found = re.search(pattern, path) if len(path) <= _LONGEST_PATH else None
    return None if found is None else found[1]


def _keys(pattern: str, paths: list[str]) -> Keys:
    numbers: dict[str, int] = {}
    names = [_name(pattern, path) for path in paths]
    return np.asarray(
        [-1 if name is None else numbers.setdefault(name, len(numbers)) for name in names], np.int64
    )


def _in_folder(pattern: str) -> str | None:
    """The pattern with the name of the folder, since each class may count from 0 again."""
    return f"([^/]+/{pattern[1:]}" if pattern.startswith("([") else None


def _with_scope(pattern: str, paths: list[str], looks: _Looks) -> str:
    """The pattern with or without the folder: does a series go on in the next class?"""
    in_folder = _in_folder(pattern)
    if in_folder is None:
        return pattern
    alone = _keys(pattern, paths)
    if alone.max() == _keys(in_folder, paths).max():
        return pattern
    return pattern if _evidence(alone, looks, across_labels=True) else in_folder


def _evidence(keys: Keys, looks: _Looks, *, across_labels: bool = False) -> float:
    """The share of images that look more like another one of their series than like others.

    Args:
        keys: Of each image.
        looks: Of each image.
        across_labels: Whether images with another label are compared, not those with the same.

    Returns:
        In [0.7, 1]; 0 if there are few series or none.
    """
    labels = looks.labels
    by_label = np.where(keys < 0, -1, keys * (labels.max() + 1) + labels)
    members = np.unique(keys if across_labels else by_label, return_inverse=True)[1]
    in_series = (keys >= 0) & (np.bincount(members)[members] > 1)
    if in_series.mean() < _LEAST_COVERED:
        return 0.0
    anchors = looks.rng.permutation(np.flatnonzero(in_series))[:_ANCHORS]
    pool = np.zeros_like(labels) if across_labels else labels
    own, other = np.full((2, len(anchors)), -1)
    for _ in range(_TRIES):
        drawn = _drawn(members, anchors, looks.rng)
        fits = (drawn != anchors) & ((labels[drawn] != labels[anchors]) == across_labels)
        own = np.where(fits, drawn, own)
        drawn = _drawn(pool, anchors, looks.rng)
        fits = (keys[drawn] != keys[anchors]) & (
            (labels[drawn] != labels[anchors]) == across_labels
        )
        other = np.where(fits, drawn, other)
    known = (own >= 0) & (other >= 0)
    # A name that all images of a class share says nothing: no other series is there to compare.
    if known.mean() * in_series.mean() < _LEAST_COVERED:
        return 0.0
    return _share(looks, anchors[known], own[known], other[known], keys)


def _drawn(members: Keys, anchors: Rows, rng: np.random.Generator) -> Rows:
    """For each anchor a random member of its set."""
    order, sizes = np.argsort(members, kind="stable"), np.bincount(members)
    starts = np.cumsum(sizes) - sizes
    of = members[anchors]
    drawn: Rows = order[starts[of] + rng.integers(0, sizes[of])]
    return drawn


def _share(looks: _Looks, anchors: Rows, own: Rows, other: Rows, keys: Keys) -> float:
    """The share by thumbnails or by measures, whichever is higher; 0 if it proves nothing."""
    number = len(np.unique(keys[anchors]))
    if number < _LEAST_SERIES:
        return 0.0
    shares = []
    for table, sign in ((looks.thumbnails, 1), (looks.measures, -1)):
        near, far = (
            (table[anchors] * table[some]).sum(1) if sign > 0
            else ((table[anchors] - table[some]) ** 2).sum(1)
            for some in (own, other)
        )  # fmt: skip
        shares.append(float((sign * near > sign * far).mean()))
    share = max(shares)
    return share if share >= _ALIKE and share > 0.5 + number**-0.5 else 0.0
