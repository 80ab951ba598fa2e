"""The report's sections on the data: findings with example images. They are also a page alone."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from acclimate.cleaning.checks import FLAGS, severity
from acclimate.cleaning.summary import Columns, drop_reasons, measured, readable, worst_first
from acclimate.cleaning.twins import Twins
from acclimate.data.dataset import FIX_FLAG_PREFIX, Dataset
from acclimate.reporting import figures
from acclimate.reporting.page import render
from acclimate.reporting.thumbnails import thumbnail

_MAX_REASONS = 50
_MAX_THUMBNAILS = 14
"""Images per finding: enough to see what it means, and under 2 MB for all findings."""
_MAX_LABELS = 35
_MAX_CLUSTERS, _MAX_CLUSTER_SIZE = 12, 6
_MAX_PAIRS = 12


@dataclass(frozen=True)
class Thumbnail:
    """A small image with a caption.

    Attributes:
        image: A data URI.
        path: Of the file.
        title: First line below the image.
        caption: Second line below the image.
    """

    image: str
    path: str
    title: str
    caption: str


@dataclass(frozen=True)
class Findings:
    """All images with one finding.

    Attributes:
        name: Of the finding.
        number: Number of images.
        thumbnails: The worst of them.
    """

    name: str
    number: int
    thumbnails: list[Thumbnail]


@dataclass(frozen=True)
class DataPage:
    """Everything that the sections show.

    Attributes:
        leaks: Leaks and conflicting labels, which invalidate all evaluation results.
        labels: Labels that are probably wrong, the worst first.
        pairs: (given label, suggested label, number of images), the most frequent first.
        kinds: All other findings.
        clusters: Near-duplicates side by side.
        counts: (finding, number of images, how many of them were dropped), in order.
        balance: Images of each class by split, SVG.
        sizes: Image sizes and aspect ratios, SVG; empty if no size is known.
    """

    leaks: list[Findings]
    labels: Findings
    pairs: list[tuple[str, str, int]]
    kinds: list[Findings]
    clusters: list[list[Thumbnail]]
    counts: list[tuple[str, int, int]]
    balance: str
    sizes: str


def data_report(dataset: Dataset) -> str:
    """The findings of cleaning and inspection as a page of their own.

    Args:
        dataset: Cleaned.

    Returns:
        HTML without external resources.
    """
    return render(
        "data_report.html",
        place=dataset.shown_root.absolute(),
        classes=dataset.classes,
        data=data_sections(dataset),
    )


def data_sections(dataset: Dataset) -> str:
    """The findings of cleaning and inspection as sections of a page.

    Args:
        dataset: Cleaned.

    Returns:
        HTML.
    """
    return render(
        "data.html",
        data=data_page(dataset),
        dataset=dataset,
        dropped=int((~dataset.keep).sum()),
        reasons=drop_reasons(dataset, _MAX_REASONS),
        splits={name: sum(dataset.counts(name).values()) for name in ("train", "val", "test")},
    )


def data_page(dataset: Dataset) -> DataPage:
    """Collects the findings of cleaning and inspection.

    Args:
        dataset: Cleaned.

    Returns:
        What the sections show. Files that no longer exist are skipped.
    """
    columns, twins = Columns(dataset), Twins(dataset)
    flags = columns["flags"]
    together: dict[str, list[int]] = {}
    for row, found in enumerate(flags):
        for flag in found or []:
            together.setdefault(flag, []).append(row)
    names = sorted(together, key=_order_of)
    counts = [
        (readable(flag), len(together[flag]), int((~dataset.keep[together[flag]]).sum()))
        for flag in names
    ]
    suspected = together.pop("label_error", [])
    kinds = {
        flag: Findings(
            readable(flag),
            len(together[flag]),
            _worst(dataset, columns, twins, flag, together[flag]),
        )
        for flag in names
        if flag in together and not flag.startswith(FIX_FLAG_PREFIX)
    }
    splits = {split: dataset.counts(split) for split in ("train", "val", "test")}
    return DataPage(
        leaks=[kind for flag, kind in kinds.items() if severity([flag]) is not None],
        labels=Findings("label error", len(suspected), _labels(dataset, columns, suspected)),
        pairs=_pairs(columns, suspected),
        kinds=[kind for flag, kind in kinds.items() if severity([flag]) is None],
        clusters=_clusters(dataset, columns),
        counts=counts,
        balance=figures.class_balance(splits),
        sizes=_sizes(columns),
    )


def _order_of(flag: str) -> tuple[int, str]:
    """Sort key: leaks and conflicting labels first, then label errors, then the rest."""
    rank = severity([flag])
    return (len(FLAGS) + (flag != "label_error") if rank is None else rank), flag


def _worst(
    dataset: Dataset, columns: Columns, twins: Twins, flag: str, rows: Sequence[int]
) -> list[Thumbnail]:
    def caption(row: int) -> str:
        return twins.sentence(flag, row) or measured(columns, flag, row)

    ordered = worst_first(columns, flag, rows)
    return _thumbnails(dataset, columns, ordered, _MAX_THUMBNAILS, caption)


def _thumbnails(
    dataset: Dataset,
    columns: Columns,
    rows: Sequence[int],
    most: int,
    caption: Callable[[int], str],
) -> list[Thumbnail]:
    """Thumbnails of the first rows whose files still exist."""
    found: list[Thumbnail] = []
    for row in rows:
        if len(found) == most:
            break
        image = thumbnail(dataset.path(row), dataset.bits)
        if image is not None:
            label = columns["label"][row]
            title = label if label is not None else "no label"
            if not dataset.keep[row]:
                title = f"{title} · dropped"
            found.append(Thumbnail(image, dataset.paths[row], title, caption(row)))
    return found


def _labels(dataset: Dataset, columns: Columns, rows: Sequence[int]) -> list[Thumbnail]:
    scores, better, split = (columns[n] for n in ("label_error", "suggested_label", "split"))
    ordered = sorted(rows, key=lambda row: -(scores[row] or 0))

    def caption(row: int) -> str:
        in_split = "" if split[row] in (None, "train") else f" · {split[row]}"
        return f"may be {better[row]} · {scores[row]:.2f}{in_split}"

    return _thumbnails(dataset, columns, ordered, _MAX_LABELS, caption)


def _pairs(columns: Columns, rows: Sequence[int]) -> list[tuple[str, str, int]]:
    given, better = columns["label"], columns["suggested_label"]
    found = Counter((given[row], better[row]) for row in rows)
    return [(one, other, n) for (one, other), n in found.most_common(_MAX_PAIRS)]


def _clusters(dataset: Dataset, columns: Columns) -> list[list[Thumbnail]]:
    """The largest clusters first, but those across splits or labels before all others."""
    cluster = columns["cluster"]
    members: dict[int, list[int]] = {}
    for row, number in enumerate(cluster):
        if number is not None and number >= 0:
            members.setdefault(number, []).append(row)
    copies: dict[str, list[int]] = {}
    places = {path: row for row, path in enumerate(dataset.paths)}
    for row, original in enumerate(columns["duplicate_of"]):
        if original is not None and cluster[row] is None and original in places:
            copies.setdefault(original, [places[original]]).append(row)
    groups = [rows for rows in [*members.values(), *copies.values()] if len(rows) > 1]

    def order(rows: list[int]) -> tuple[bool, int, int]:
        labels = {columns["label"][row] for row in rows}
        splits = {columns["split"][row] for row in rows}
        return (len(labels) < 2 and len(splits) < 2, -len(rows), rows[0])

    def caption(row: int) -> str:
        return str(columns["split"][row] or "")

    shown = [
        _thumbnails(dataset, columns, rows, _MAX_CLUSTER_SIZE, caption)
        for rows in sorted(groups, key=order)[:_MAX_CLUSTERS]
    ]
    return [thumbnails for thumbnails in shown if len(thumbnails) > 1]


def _sizes(columns: Columns) -> str:
    known = [
        (w, h) for w, h in zip(columns["width"], columns["height"], strict=True) if w is not None
    ]
    return figures.image_sizes(np.asarray(known, np.float64)) if known else ""
