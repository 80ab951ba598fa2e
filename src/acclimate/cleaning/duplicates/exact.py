"""Files with the same bytes or the same pixels, in one split and across splits."""

from collections import defaultdict
from typing import Any

from acclimate.cleaning.findings import SPLIT_PRIORITY, Check, Findings, Flag
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import HOME, Dataset
from acclimate.errors import count


def duplicates(dataset: Dataset, settings: Clean, context: Context) -> Dataset:
    """Finds the sets of equal files and equal pictures, and keeps one of each.

    Copies that stand in several splits leak: the copy that trains is dropped. Copies with
    different labels say nothing that can be learnt: all of them are dropped, except in test,
    where the owner's figures stay what they were. Other test domains are left alone.

    Args:
        dataset: With digests.
        settings: The policy: what is dropped and what is only flagged.
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
        conflict = _conflict_reason(members, columns) if len(labels) > 1 else None
        for row in members:
            found = _finding(row, first, columns, conflict)
            if found is not None:
                findings.add(row, *found)
            if row != first:
                duplicate_of[row] = columns["path"][first]
    _report(findings, context)
    return dataset.with_columns({**findings.columns(), "duplicate_of": duplicate_of})


_READ = ("digest", "pixels", "keep", "path", "split", "label", "domain", "duplicate_of")


def _duplicate_groups(columns: dict[str, list[Any]]) -> list[list[int]]:
    """Rows of the same picture; equal files are the same picture by themselves."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for row, keep in enumerate(columns["keep"]):
        picture_digest = columns["pixels"][row] or columns["digest"][row]
        if picture_digest is not None and keep and columns["domain"][row] == HOME:
            groups[picture_digest].append(row)
    return [members for members in groups.values() if len(members) > 1]


def _conflict_reason(members: list[int], columns: dict[str, list[Any]]) -> str:
    one = len({columns["digest"][row] for row in members}) == 1
    labels = sorted({columns["label"][row] for row in members} - {None})
    return f"same {'file' if one else 'picture'} under different labels ({', '.join(labels)})"


def _finding(
    row: int, first: int, columns: dict[str, list[Any]], conflict: str | None
) -> tuple[str, str] | None:
    """A flag and its reason."""
    split, original = columns["split"], columns["path"][first]
    same_file = columns["digest"][row] == columns["digest"][first]
    what = "file" if same_file else "picture"
    if conflict is not None and split[row] != "test":
        return "label_conflict", conflict
    if row == first:
        return None
    if split[row] is not None and split[row] != split[first]:
        return "leak", f"leak: same {what} as {original} in {split[first]}"
    return (
        "duplicate",
        f"exact duplicate of {original}" if same_file else f"same picture as {original}",
    )


def _report(findings: Findings, context: Context) -> None:
    """Leaks first: they falsify every figure that follows."""
    leaks, conflicts = findings.found["leak"], findings.found["label_conflict"]
    if leaks:
        context.progress.info(
            f"clean: {count(leaks, 'copy is', 'copies are')} in more than one split (leak)"
        )
    if conflicts:
        context.progress.info(
            f"clean: {count(conflicts, 'copy has', 'copies have')} different labels"
        )
    dropped = findings.dropped.total()
    if dropped:
        context.progress.info(f"clean: {count(dropped, 'exact duplicate')} left out")


CHECK = Check(
    duplicates,
    flags=(Flag("leak", severity=0), Flag("label_conflict", severity=2), Flag("duplicate")),
    writes=("keep", "reasons", "flags", "duplicate_of"),
)
