"""What the checks found, image by image, and what follows from it."""

from collections import Counter
from typing import Any

from acclimate.cleaning.settings import Clean
from acclimate.data.dataset import Dataset
from acclimate.data.sources.fix_list import is_marked_keep

SPLIT_PRIORITY = {"test": 0, "val": 1, "train": 2, None: 3, "unlabelled": 4}
"""Who stays when copies stand in several splits: the side that judges, so that what is trained
on never holds what is tested on."""


class Findings:
    """Collects findings; the policy decides which of them leave an image out.

    Args:
        dataset: Its flags, reasons and `keep` are added to.
        settings: Their `drop` is the policy.
    """

    def __init__(self, dataset: Dataset, settings: Clean) -> None:
        names = ("keep", "reasons", "flags")
        self._columns: dict[str, list[Any]] = {n: dataset.table[n].to_pylist() for n in names}
        self._drop = frozenset(settings.drop)
        self.found: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()

    def add(self, row: int, flag: str, reason: str) -> None:
        """Notes one finding, unless a person told to keep the image as it is.

        Args:
            row: Of the image.
            flag: Its name, as in `Clean.drop`.
            reason: For people, should the image be left out.
        """
        flags = self._columns["flags"][row] or []
        if is_marked_keep(flags):
            return
        self.found[flag] += 1
        if flag not in flags:
            self._columns["flags"][row] = [*flags, flag]
        if flag in self._drop and self._columns["keep"][row]:
            self._columns["keep"][row] = False
            self._columns["reasons"][row] = [*self._columns["reasons"][row], reason]
            self.dropped[flag] += 1

    def columns(self) -> dict[str, list[Any]]:
        """The columns `keep`, `reasons` and `flags`."""
        return self._columns
