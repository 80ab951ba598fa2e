"""Files with the same bytes, in one split and across splits."""

from collections import defaultdict
from typing import Any

from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import HOME, Dataset
from acclimate.errors import count

_RANK = {"test": 0, "val": 1, "train": 2, None: 3, "unlabelled": 4}
"""Who stays when copies stand in several splits: the side that judges, so that what is trained
on never holds what is tested on."""


def duplicates(dataset: Dataset, settings: Clean, context: Context) -> Dataset:
    """Keeps one of each set of equal files.

    Copies that stand in several splits leak: the copy that trains is dropped. Copies with
    different labels say nothing that can be learnt: all of them are dropped, except in test,
    where the owner's figures stay what they were. Other test domains are left alone.

    Args:
        dataset: With digests.
        settings: Unused: equal bytes have no threshold.
        context: The run.

    Returns:
        The data set with `keep`, `reasons` and `duplicate_of` filled.
    """
    columns = {name: dataset.table[name].to_pylist() for name in _READ}
    keep, reasons = columns["keep"], columns["reasons"]
    together: dict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(columns["digest"]):
        if digest is not None and keep[row] and columns["domain"][row] == HOME:
            together[digest].append(row)
    same_as: list[str | None] = [None] * len(dataset)
    dropped = 0
    for members in together.values():
        if len(members) < 2:
            continue
        members.sort(key=lambda row: (_RANK[columns["split"][row]], columns["path"][row]))
        labels = {columns["label"][row] for row in members} - {None}
        first = members[0]
        for row in members:
            reason = _reason(row, first, columns, sorted(labels))
            if reason is not None:
                keep[row] = False
                reasons[row] = [*reasons[row], reason]
                dropped += 1
            if row != first:
                same_as[row] = columns["path"][first]
    if dropped:
        context.progress.say(f"clean: {count(dropped, 'exact duplicate')} left out")
    return dataset.with_columns({"keep": keep, "reasons": reasons, "duplicate_of": same_as})


_READ = ("digest", "keep", "reasons", "path", "split", "label", "domain")


def _reason(row: int, first: int, columns: dict[str, list[Any]], labels: list[str]) -> str | None:
    split, original = columns["split"], columns["path"][first]
    if len(labels) > 1 and split[row] != "test":
        return f"same file under different labels ({', '.join(labels)})"
    if row == first:
        return None
    if split[row] != split[first]:
        return f"leak: same file as {original} in {split[first]}"
    return f"exact duplicate of {original}"
