"""The check for near-duplicates: re-encoded, resized, cropped, brighter or darker copies."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate.cleaning.duplicates.connected_components import component_labels
from acclimate.cleaning.duplicates.perceptual_hash import Thumbnails
from acclimate.cleaning.duplicates.thumbnail_pairs import (
    MIRRORS,
    ROTATIONS,
    ScoredPairs,
    merge_pairs,
    near_duplicate_pairs,
    near_duplicate_threshold,
)
from acclimate.cleaning.findings import SPLIT_PRIORITY, Check, Findings, Flag
from acclimate.cleaning.scan.image_stats import THUMBNAIL
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import HOME, Dataset, Rows
from acclimate.errors import count


def near_duplicates(dataset: Dataset, settings: Clean, context: Context) -> Dataset:
    """Finds clusters of near-duplicates.

    The first image of a cluster represents it: test before val before train, then the largest.
    An image in another split than its representative is a leak. The others are flagged, and the
    split keeps a cluster together. Images of other test domains are not checked.

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
        thumbnails = _stacked_thumbnails(columns["thumbnail"], rows)
        transforms = (
            *(MIRRORS if settings.mirrored else ()),
            *(ROTATIONS if settings.rotated else ()),
        )
        min_score = near_duplicate_threshold(
            thumbnails, settings.near_duplicate, context.seed_for("near-duplicates")
        )
        pairs, scores = near_duplicate_pairs(thumbnails, min_score, transforms)
        if settings.features:
            by_features = _similar_by_features(dataset, rows, settings, context)
            pairs, scores = merge_pairs([(pairs, scores), by_features])
        paired, cluster_ids = np.unique(pairs), component_labels(pairs, len(rows))
        best = np.zeros(len(rows), np.float32)
        np.maximum.at(best, pairs.ravel(), np.repeat(scores, 2))
        for place in paired:
            columns["cluster"][rows[place]] = int(rows[cluster_ids[place]])
            columns["near_duplicate"][rows[place]] = float(best[place])
        for members in _clusters(rows[paired], cluster_ids[paired]):
            _add_findings(members, columns, findings)
        _report(findings, context)
    filled = {name: columns[name] for name in ("cluster", "near_duplicate", "duplicate_of")}
    return dataset.with_columns({**findings.columns(), **filled})


_READ = (
    "thumbnail", "cluster", "near_duplicate", "duplicate_of",
    "path", "label", "split", "width", "height",
)  # fmt: skip


def _comparable(dataset: Dataset) -> Rows:
    measured = np.asarray(
        dataset.table["thumbnail"].is_valid().to_numpy(zero_copy_only=False), bool
    )
    return np.intersect1d(dataset.rows(domain=HOME), np.flatnonzero(measured))


def _stacked_thumbnails(column: list[bytes], rows: Rows) -> Thumbnails:
    together = b"".join(column[row] for row in rows)
    return np.frombuffer(together, np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL)


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
    first = members[0]
    labels = sorted({label[row] for row in members} - {None})
    for row in members:
        if len(labels) > 1:
            shown = ", ".join(labels)
            findings.add(row, "near_label_conflict", f"same picture under other labels ({shown})")
        if row == first:
            continue
        columns["duplicate_of"][row] = path[first]
        if split[row] is not None and split[row] != split[first]:
            reason = f"leak: same picture as {path[first]} in {split[first]}"
            findings.add(row, "near_leak", reason)
        findings.add(row, "near_duplicate", f"same picture as {path[first]}")


def _report(findings: Findings, context: Context) -> None:
    leaks, conflicts = findings.found["near_leak"], findings.found["near_label_conflict"]
    if leaks:
        gone = ", left out" if findings.dropped["near_leak"] else ""
        context.progress.info(
            f"clean: {count(leaks, 'near-duplicate')} of an image in another split (leak){gone}"
        )
    if conflicts:
        context.progress.info(
            f"clean: {count(conflicts, 'near-duplicate has', 'near-duplicates have')} "
            "different labels"
        )
    others = findings.found["near_duplicate"] - leaks
    if others:
        context.progress.info(f"clean: {count(others, 'near-duplicate')} found")


CHECK = Check(
    near_duplicates,
    flags=(
        Flag("near_leak", severity=1, worst_by="near_duplicate", suggests_drop=True),
        Flag("near_label_conflict", severity=3, worst_by="near_duplicate"),
        Flag("near_duplicate", worst_by="near_duplicate", suggests_drop=True),
    ),
    writes=("keep", "reasons", "flags", "duplicate_of", "cluster", "near_duplicate"),
)
