"""The check for groups in more than one split: the model would be tested on what it was shown."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from acclimate.cleaning.findings import SPLIT_PRIORITY, Check, Findings, Flag, with_note
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.data.linked import linked_images
from acclimate.errors import count

_LEARNT_FROM = SPLIT_PRIORITY["train"]
_COPY_FLAGS = frozenset({"leak", "near_leak"})
"""Images that are flagged as copies of single images already."""


def groups(dataset: Dataset, settings: Clean, context: Context) -> Dataset:
    """Flags images whose group, or a copy of one of its images, is in val or test too.

    No image changes its split: test stays whole, val loses what is in test, and train loses what
    is in val or test. Two groups with copies of the same image count as one.

    Args:
        dataset: With groups and splits as they were given.
        settings: Which flags drop an image.
        context: The run.

    Returns:
        The data set with `flags` filled, and `keep` false for dropped images.
    """
    findings, leaks = Findings(dataset, settings), []
    columns = {n: dataset.table[n].to_pylist() for n in ("group", "path", "split", "flags")}
    group, split = columns["group"], columns["split"]
    linked = linked_images(dataset, look_alikes=False)
    ranks = [min(rank, _LEARNT_FROM) for rank in _ranks(split, settings)]
    rows = [row for row in np.flatnonzero(dataset.keep).tolist() if linked[row] is not None]
    rows.sort(key=lambda row: ranks[row])
    first: dict[int | None, int] = {}
    direct = {(group[row], ranks[row]) for row in rows}
    for row in rows:
        best = first.setdefault(linked[row], row)
        is_copy = group[row] is None and not _COPY_FLAGS.isdisjoint(columns["flags"][row] or ())
        if ranks[row] == ranks[best] or is_copy:
            continue
        reason = f"leak: copies link it to {columns['path'][best]} in {split[best]}"
        if group[row] is not None and (group[row], ranks[best]) in direct:
            reason = f"leak: group {group[row]!r} is in {split[best]}"
        if findings.add(row, "group_leak", reason):
            name = group[row] or group[best] or columns["path"][best]
            leaks.append(_Leak(linked[row], name, split[row], split[best]))
    found = dataset.with_columns(findings.columns())
    return with_note(found, _sentence(leaks, settings), first=True) if leaks else found


def _ranks(splits: list[str | None], settings: Clean) -> list[int]:
    if settings.test >= 1 and "test" not in splits:
        # All images without a split will be test images.
        splits = [split or "test" for split in splits]
    return [SPLIT_PRIORITY[split] for split in splits]


@dataclass(frozen=True)
class _Leak:
    """One image of a set that is in more than one split."""

    number: int | None
    name: str
    split: str | None
    best: str | None


def _sentence(leaks: list[_Leak], settings: Clean) -> str:
    sets, example = len({leak.number for leak in leaks}), leaks[0]
    images = Counter(leak.split or _UNSPLIT for leak in leaks)
    shown = " and ".join(f"{count(n, 'image')} of {split}" for split, n in images.items())
    result = "left out" if "group_leak" in settings.drop else "kept, with the flag group_leak"
    return (
        f"leak: {count(sets, 'group is', 'groups are')} in more than one split, such as "
        f"{example.name!r} in {example.best} and {example.split or _UNSPLIT}. "
        f"{shown} {'is' if len(leaks) == 1 else 'are'} {result}."
    )


_UNSPLIT = "those without a split"
CHECK = Check(
    groups,
    flags=(Flag("group_leak", severity=0, fix="drop"),),
    writes=("keep", "reasons", "flags"),
)
