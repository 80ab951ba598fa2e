"""The check for near-duplicates: saved again, resized, cropped, brighter, mirrored or turned."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate.cleaning.duplicates.connected_components import component_labels
from acclimate.cleaning.duplicates.orientation import turned_pairs
from acclimate.cleaning.duplicates.perceptual_hash import stacked
from acclimate.cleaning.duplicates.thumbnail_pairs import (
    ScoredPairs,
    merge_pairs,
    near_duplicate_pairs,
    near_duplicate_threshold,
)
from acclimate.cleaning.findings import SPLIT_PRIORITY, Check, Findings, Flag, with_note
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import HOME, Dataset, Rows
from acclimate.errors import count

_TURNED_SHARE = 0.05
"""Share of mirrored and turned copies from which the data was probably augmented before."""


def near_duplicates(dataset: Dataset, settings: Clean, context: Context) -> Dataset:
    """Finds clusters of near-duplicates.

    The first image of each label represents a cluster: test before val before train, then the
    largest. An image in another split than its representative is a leak. Images with different
    labels are a conflict: they look alike, but they need not show the same thing. The split keeps
    a cluster together. Images of other test domains are not checked.

    Args:
        dataset: Measured, without exact duplicates.
        settings: The threshold, and which flags drop an image.
        context: The run.

    Returns:
        The data set with `cluster`, `near_duplicate`, `duplicate_of` and `flags` filled, and
        `keep` false for dropped images.
    """
    rows = _comparable(dataset)
    findings = Findings(dataset, settings)
    columns = {name: dataset.table[name].to_pylist() for name in _READ}
    if len(rows) > 1:
        pairs, scores, turned = _pairs(dataset, rows, columns["thumbnail"], settings, context)
        paired, cluster_ids = np.unique(pairs), component_labels(pairs, len(rows))
        best = np.zeros(len(rows), np.float32)
        np.maximum.at(best, pairs.ravel(), np.repeat(scores, 2))
        for place in paired:
            columns["cluster"][rows[place]] = int(rows[cluster_ids[place]])
            columns["near_duplicate"][rows[place]] = float(best[place])
        for members in _clusters(rows[paired], cluster_ids[paired]):
            _add_findings(members, columns, findings)
        if note := _turned_note(turned, len(rows)):
            dataset = with_note(dataset, note)
    filled = {name: columns[name] for name in ("cluster", "near_duplicate", "duplicate_of")}
    return dataset.with_columns({**findings.columns(), **filled})


_READ = (
    "thumbnail", "cluster", "near_duplicate", "duplicate_of",
    "path", "label", "split", "width", "height",
)  # fmt: skip


def _comparable(dataset: Dataset) -> Rows:
    return np.intersect1d(dataset.rows(domain=HOME), np.flatnonzero(dataset.has("thumbnail")))


def _pairs(
    dataset: Dataset, rows: Rows, column: list[bytes], settings: Clean, context: Context
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """All pairs with their scores, and those of them that are mirrored or turned copies only."""
    thumbnails = stacked(column[row] for row in rows)
    seed = context.seed_for("near-duplicates")
    min_score = near_duplicate_threshold(thumbnails, settings.near_duplicate, seed)
    found = [near_duplicate_pairs(thumbnails, min_score)]
    if settings.features:
        found.append(_similar_by_features(dataset, rows, settings, context))
    turned, scores = turned_pairs(
        thumbnails, min_score, seed, mirrored=settings.mirrored, rotated=settings.rotated
    )
    # A mirrored "left" sign is a "right" sign: a turned copy with another label is no copy.
    labels = dataset.labels[rows[turned]]  # (P, 2)
    alike = (labels[:, 0] == labels[:, 1]) | (labels < 0).any(1)
    turned, scores = turned[alike], scores[alike]
    pairs, best = merge_pairs([*found, (turned, scores)])
    known = component_labels(merge_pairs(found)[0], len(rows))
    return pairs, best, turned[known[turned[:, 0]] != known[turned[:, 1]]]


def _turned_note(turned: NDArray[np.int64], total: int) -> str | None:
    """A sentence, if so many images are turned copies that the data was augmented before."""
    copies = len(np.unique(turned)) - len(np.unique(component_labels(turned, total)[turned]))
    if copies < _TURNED_SHARE * total:
        return None
    return (
        f"{copies:,} of {count(total, 'image')} are mirrored or turned copies of others: the data "
        "was probably augmented before. Where no split is given, all copies stay in one."
    )


def _similar_by_features(
    dataset: Dataset, rows: Rows, settings: Clean, context: Context
) -> ScoredPairs:
    # Imported here, since it loads PyTorch and most cleaning does not need a network.
    from acclimate.cleaning.duplicates import feature_pairs

    features = feature_pairs.extract_features(dataset, rows, context)
    seed = context.seed_for("near-duplicates", "features")
    min_score = feature_pairs.feature_threshold(features, settings.feature_similarity, seed)
    return feature_pairs.similar_pairs(features, min_score, seed)


def _clusters(rows: Rows, cluster_ids: NDArray[np.int64]) -> list[Rows]:
    """The rows of each cluster."""
    order = np.argsort(cluster_ids, kind="stable")
    starts = np.flatnonzero(np.diff(cluster_ids[order])) + 1
    return [some for some in np.split(rows[order], starts) if len(some)]


def _add_findings(cluster: Rows, columns: dict[str, list[Any]], findings: Findings) -> None:
    split, path, label = columns["split"], columns["path"], columns["label"]

    def rank(row: int) -> tuple[int, int, str]:
        area = columns["width"][row] * columns["height"][row]
        return SPLIT_PRIORITY[split[row]], -area, path[row]

    members = sorted(cluster.tolist(), key=rank)
    first_of: dict[str | None, int] = {}
    for row in members:
        first_of.setdefault(label[row], row)
    for row in members:
        other = next((n for n in first_of if None not in (n, label[row]) and n != label[row]), None)
        if other is not None:
            twin = path[first_of[other]]
            findings.add(row, "near_label_conflict", f"looks like {twin} with label {other!r}")
        # An image without a label may be a copy of any of them.
        same = [first_of[n] for n in first_of if label[row] is None or n in (None, label[row])]
        first = min(same, key=rank)
        if row == first:
            continue
        columns["duplicate_of"][row] = path[first]
        if split[row] is not None and split[row] != split[first]:
            reason = f"leak: same picture as {path[first]} in {split[first]}"
            findings.add(row, "near_leak", reason)
        findings.add(row, "near_duplicate", f"same picture as {path[first]}")


CHECK = Check(
    near_duplicates,
    flags=(
        Flag("near_leak", severity=2, worst_by="near_duplicate", fix="drop"),
        Flag("near_label_conflict", severity=4, worst_by="near_duplicate", fix="review"),
        Flag("near_duplicate", worst_by="near_duplicate", fix="drop"),
    ),
    writes=("keep", "reasons", "flags", "duplicate_of", "cluster", "near_duplicate"),
)
