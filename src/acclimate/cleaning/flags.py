"""What is said about an image that stays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from acclimate.data.dataset import Dataset
from acclimate.data.sources.fix_list import is_marked_keep

FALSIFYING = ("leak", "near_leak", "label_conflict", "near_label_conflict")
"""Flags that are told first: while such an image stays, every figure that follows is false."""


def with_flag(
    dataset: Dataset, flag: str, found: Sequence[bool] | NDArray[np.bool_]
) -> list[list[str]]:
    """The flags of every row, one of them said anew.

    Args:
        dataset: With flags, that one from an earlier look perhaps.
        flag: Its name.
        found: bool, (N,); an image that a person told to keep is not flagged again.

    Returns:
        New lists.
    """
    return [
        [
            *(f for f in flags or [] if f != flag),
            *([flag] if here and not is_marked_keep(flags) else []),
        ]
        for flags, here in zip(dataset.table["flags"].to_pylist(), found, strict=True)
    ]
