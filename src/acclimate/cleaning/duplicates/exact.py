"""The check for exact duplicates: the same bytes or pixels, in one split or several."""

from collections import defaultdict
from typing import Any

from acclimate.cleaning.findings import SPLIT_PRIORITY, Check, Findings, Flag
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import HOME, Dataset


def duplicates(dataset: Dataset, settings: Clean, context: Context) -> Dataset:
    """Finds sets of equal files and equal pixels, and keeps one image of each.

    Copies in several splits are a leak: the copy in train is dropped. Copies with different
    labels are all dropped, except those in test, so that test metrics stay comparable. Images
    of other test domains are not checked.

    Args:
        dataset: With file and pixel digests.
        settings: Which flags drop an image.
        context: The run.

    Returns:
        The data set with `keep`, `reasons`, `flags` and `duplicate_of` filled.
    """
    columns = {name: dataset.table[name].to_pylist() for name in _READ}
    findings = Findings(dataset, settings)
    duplicate_of: list[str | None] = columns["duplicate_of"]
    for members in _duplicate_groups(columns):
        members.sort(key=lambda row: (SPLIT_PRIORITY[columns["split"][row]], columns["path"][row]))
        labels = {columns["label"][row] for row in members} - {None}
        first = members[0]
        for row in members:
            twin = _conflicting(row, members, columns) if len(labels) > 1 else None
            found = _finding(row, first, columns, twin)
            if found is not None:
                findings.add(row, *found)
            if row != first:
                duplicate_of[row] = columns["path"][first]
    return dataset.with_columns({**findings.columns(), "duplicate_of": duplicate_of})


_READ = ("digest", "pixels", "keep", "path", "split", "label", "domain", "duplicate_of")


def _duplicate_groups(columns: dict[str, list[Any]]) -> list[list[int]]:
    """Groups of rows with the same pixels; a file without a pixel digest counts by its bytes."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for row, keep in enumerate(columns["keep"]):
        picture_digest = columns["pixels"][row] or columns["digest"][row]
        if picture_digest is not None and keep and columns["domain"][row] == HOME:
            groups[picture_digest].append(row)
    return [members for members in groups.values() if len(members) > 1]


def _conflicting(row: int, members: list[int], columns: dict[str, list[Any]]) -> int:
    """The first copy with another label; for a copy without a label, the first with one."""
    label = columns["label"]
    return next(other for other in members if label[other] not in (None, label[row]))


def _finding(
    row: int, first: int, columns: dict[str, list[Any]], conflicting: int | None
) -> tuple[str, str] | None:
    """The flag of a row and its reason."""
    split, digest, original = columns["split"], columns["digest"], columns["path"][first]
    same_file = digest[row] == digest[first]
    what = "file" if same_file else "picture"
    if conflicting is not None and split[row] != "test":
        what = "file" if digest[row] == digest[conflicting] else "picture"
        twin, label = columns["path"][conflicting], columns["label"][conflicting]
        return "label_conflict", f"same {what} as {twin} with label {label!r}"
    if row == first:
        return None
    if split[row] is not None and split[row] != split[first]:
        return "leak", f"leak: same {what} as {original} in {split[first]}"
    return (
        "duplicate",
        f"exact duplicate of {original}" if same_file else f"same picture as {original}",
    )


CHECK = Check(
    duplicates,
    flags=(
        Flag("leak", severity=1, fix="drop"),
        Flag("label_conflict", severity=3, fix="review"),
        Flag("duplicate", fix="drop"),
    ),
    writes=("keep", "reasons", "flags", "duplicate_of"),
)
