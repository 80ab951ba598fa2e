"""What is said about an image that stays: "kind: what", so that people can sort by kind."""

from collections.abc import Mapping

from acclimate.data.dataset import Dataset
from acclimate.data.fixes import is_kept


def refreshed(dataset: Dataset, kind: str, found: Mapping[int, str]) -> list[list[str]]:
    """The flags with one kind said anew.

    Args:
        dataset: With flags, some of that kind from an earlier look perhaps.
        kind: What stands before the colon.
        found: Row to flag; an image that a person told to keep is not flagged again.

    Returns:
        The flags of every row.
    """
    flags = [
        [flag for flag in row or [] if not flag.startswith(f"{kind}:")]
        for row in dataset.table["flags"].to_pylist()
    ]
    for row, flag in found.items():
        if not is_kept(flags[row]):
            flags[row].append(flag)
    return flags


def with_kind(dataset: Dataset, kind: str) -> list[tuple[int, str]]:
    """Each row that is flagged so, with its flag."""
    return [
        (row, flag)
        for row, flags in enumerate(dataset.table["flags"].to_pylist())
        for flag in flags or []
        if flag.startswith(f"{kind}:")
    ]
