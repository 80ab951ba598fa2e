"""The other image that a finding is about: the copy, the look-alike, or one of the same group."""

from collections import defaultdict
from functools import cached_property
from typing import Any

from acclimate.cleaning.findings import SPLIT_PRIORITY
from acclimate.data.dataset import Dataset

_COPY_FLAGS = frozenset({"leak", "near_leak", "duplicate", "near_duplicate"})
_SHARED = {
    "label_conflict": "same picture as",
    "near_label_conflict": "looks like",
    "group_leak": "same group as",
}
"""Flags of images that have something in common with another one, and how this is said."""

_READ = ("path", "label", "split", "cluster", "group", "digest", "pixels", "duplicate_of")


class Twins:
    """Finds the twin of each flagged image.

    Args:
        dataset: Cleaned.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._table = dataset.table

    def path(self, flag: str, row: int) -> str | None:
        """The path of the image's twin.

        Args:
            flag: One of the image's flags.
            row: The image.

        Returns:
            None if the flag is not about two images, or no twin is known.
        """
        if flag in _COPY_FLAGS:
            original: str | None = self._columns["duplicate_of"][row]
            return original
        twin = self._sharing(flag, row) if flag in _SHARED else None
        return None if twin is None else self._columns["path"][twin]

    def sentence(self, flag: str, row: int) -> str:
        """What the image's twin is, such as "same picture as test/a/1.png in test".

        Args:
            flag: One of the image's flags.
            row: The image.

        Returns:
            Nothing if there is no twin.
        """
        path = self.path(flag, row)
        if path is None:
            return ""
        if flag.endswith("label_conflict"):
            label = self._columns["label"][self._row_of[path]]
            return f"{_SHARED[flag]} {path} with label {label!r}"
        said = _SHARED.get(flag, "same picture as")
        split = self._columns["split"][self._row_of[path]] if path in self._row_of else None
        in_split = f" in {split}" if flag.endswith("leak") and split else ""
        return f"{said} {path}{in_split}"

    def _sharing(self, flag: str, row: int) -> int | None:
        """The best image of the same cluster, pixels or group for which the flag holds."""
        label, split = self._columns["label"], self._columns["split"]

        def conflicts(other: int) -> bool:
            if flag == "group_leak":
                return SPLIT_PRIORITY[split[other]] < SPLIT_PRIORITY[split[row]]
            return label[other] not in (None, label[row])

        members = self._members[flag].get(self._key(flag, row), [])
        return next((other for other in members if conflicts(other)), None)

    def _key(self, flag: str, row: int) -> object:
        if flag == "label_conflict":
            return self._columns["pixels"][row] or self._columns["digest"][row]
        return self._columns["group" if flag == "group_leak" else "cluster"][row]

    @cached_property
    def _columns(self) -> dict[str, list[Any]]:
        return {name: self._table[name].to_pylist() for name in _READ}

    @cached_property
    def _members(self) -> dict[str, dict[object, list[int]]]:
        """For each flag: the images of each cluster, pixels or group, test before val and train."""
        split = self._columns["split"]
        rows = sorted(range(len(split)), key=lambda row: SPLIT_PRIORITY[split[row]])
        found: dict[str, dict[object, list[int]]] = {}
        for flag in _SHARED:
            members = found[flag] = defaultdict(list)
            for row in rows:
                if (key := self._key(flag, row)) is not None:
                    members[key].append(row)
        return found

    @cached_property
    def _row_of(self) -> dict[str, int]:
        """The first row of each path."""
        paths = self._columns["path"]
        return {path: row for row, path in reversed(list(enumerate(paths)))}
