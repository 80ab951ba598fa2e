"""What a check is, and how its findings are collected and turned into dropped images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.data.sources.fix_list import is_marked_keep

SPLIT_PRIORITY = {"test": 0, "val": 1, "train": 2, None: 3, "unlabelled": 4}
"""Which copy stays if copies are in several splits. Test comes first, then val: the model must
not be trained on an image that it is later tested on."""


NOTE_PREFIX = "clean: "
"""Prefix of the notes of a data set that cleaning wrote."""


@dataclass(frozen=True)
class Flag:
    """One finding that an image can be flagged with.

    Attributes:
        name: As in the `flags` column and in `Clean.drop`.
        severity: Rank among the flags that make every later metric wrong, 0 being the worst;
            None for all other flags.
        worst_by: The measure that orders flagged images in the report; None keeps their order.
        lowest_first: Whether the lowest value of the measure is the worst one.
        fix: The action that `acclimate fixes` suggests; None if the flag alone is no reason to
            list an image.
    """

    name: str
    severity: int | None = None
    worst_by: str | None = None
    lowest_first: bool = False
    fix: Literal["drop", "review"] | None = None


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

    def add(self, row: int, flag: str, reason: str) -> bool:
        """Adds one finding, unless a fix list says to keep the image as it is.

        Args:
            row: The image's row.
            flag: The flag's name, as in `Clean.drop`.
            reason: The reason shown to people if the image is dropped.

        Returns:
            Whether the finding was added.
        """
        flags = self._columns["flags"][row] or []
        if is_marked_keep(flags):
            return False
        if flag not in flags:
            self._columns["flags"][row] = [*flags, flag]
        if flag in self._drop and self._columns["keep"][row]:
            self._columns["keep"][row] = False
            self._columns["reasons"][row] = [*self._columns["reasons"][row], reason]
            # The flag that drops an image comes first, so that each is counted under one flag.
            self._columns["flags"][row] = [flag, *(f for f in flags if f != flag)]
        return True

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


def with_note(dataset: Dataset, sentence: str, *, first: bool = False) -> Dataset:
    """Adds a finding about the data as a whole to the notes, which are printed and reported.

    Args:
        dataset: The data set.
        sentence: For people.
        first: Whether it comes before all other notes.

    Returns:
        The data set with the note.
    """
    note = NOTE_PREFIX + sentence
    return replace(dataset, notes=(note, *dataset.notes) if first else (*dataset.notes, note))


def cleaning_notes(dataset: Dataset) -> list[str]:
    """The notes that cleaning wrote."""
    return [note for note in dataset.notes if note.startswith(NOTE_PREFIX)]


def without_notes(dataset: Dataset) -> Dataset:
    """The data set without the notes of an earlier cleaning."""
    left = tuple(note for note in dataset.notes if not note.startswith(NOTE_PREFIX))
    return replace(dataset, notes=left)
