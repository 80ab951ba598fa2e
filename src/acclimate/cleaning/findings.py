"""What a check is, and how its findings are collected and turned into dropped images."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.data.sources.fix_list import is_marked_keep

SPLIT_PRIORITY = {"test": 0, "val": 1, "train": 2, None: 3, "unlabelled": 4}
"""Which copy stays if copies are in several splits. Test comes first, then val: the model must
not be trained on an image that it is later tested on."""


@dataclass(frozen=True)
class Flag:
    """One finding that an image can be flagged with.

    Attributes:
        name: As in the `flags` column and in `Clean.drop`.
        severity: Rank among the flags that make every later metric wrong, 0 being the worst;
            None for all other flags.
        worst_by: The measure that orders flagged images in the report; None keeps their order.
        lowest_first: Whether the lowest value of the measure is the worst one.
        suggests_drop: Whether `acclimate fixes` suggests to drop the image, not to keep it.
    """

    name: str
    severity: int | None = None
    worst_by: str | None = None
    lowest_first: bool = False
    suggests_drop: bool = False


@dataclass(frozen=True)
class Check:
    """One check of the cleaning stage.

    Attributes:
        run: (dataset, settings, context) to the data set with the check's columns filled.
        flags: All flags that it may set.
        writes: All columns that it may change.
    """

    run: Callable[[Dataset, Clean, Context], Dataset]
    flags: tuple[Flag, ...]
    writes: tuple[str, ...]


class Findings:
    """Collects findings, and drops the images whose flags are in the `drop` setting.

    Args:
        dataset: The data set whose `flags`, `reasons` and `keep` are extended.
        settings: Provides `drop`.
    """

    def __init__(self, dataset: Dataset, settings: Clean) -> None:
        names = ("keep", "reasons", "flags")
        self._columns: dict[str, list[Any]] = {n: dataset.table[n].to_pylist() for n in names}
        self._drop = frozenset(settings.drop)
        self.found: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()

    def add(self, row: int, flag: str, reason: str) -> None:
        """Adds one finding, unless a fix list says to keep the image as it is.

        Args:
            row: The image's row.
            flag: The flag's name, as in `Clean.drop`.
            reason: The reason shown to people if the image is dropped.
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


def with_flag(
    dataset: Dataset, flag: str, found: Sequence[bool] | NDArray[np.bool_]
) -> list[list[str]]:
    """The flags of every row, with one of them set again.

    Args:
        dataset: Its rows may have the flag already, from an earlier run.
        flag: The flag's name.
        found: bool, (N,). An image that a fix list says to keep is not flagged.

    Returns:
        New lists of flags.
    """
    all_flags = dataset.table["flags"].to_pylist()
    return [
        [
            *(f for f in flags or [] if f != flag),
            *([flag] if here and not is_marked_keep(flags) else []),
        ]
        for flags, here in zip(all_flags, found, strict=True)
    ]
