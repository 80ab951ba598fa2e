"""Which images belong together: groups of the user, copies, and clusters of near-duplicates."""

import numpy as np

from acclimate.data.dataset import HOME, Dataset


def linked_images(dataset: Dataset, *, look_alikes: bool) -> list[int | None]:
    """Numbers the sets of images that belong together.

    Images are linked by their group and by being copies of each other. Two groups with a copy of
    the same image become one set.

    Args:
        dataset: Its columns `group`, `duplicate_of` and `cluster` are read.
        look_alikes: Whether a cluster of near-duplicates links its images even if their labels
            differ. Such images look alike, but they may not show the same thing.

    Returns:
        The number of each image's set; None for images that are linked to no other, and for those
        of other domains.
    """
    columns = {n: dataset.table[n].to_pylist() for n in ("group", "duplicate_of", "cluster")}
    originals = set(columns["duplicate_of"]) - {None}
    copied = [
        path if original is None and path in originals else original
        for path, original in zip(dataset.paths, columns["duplicate_of"], strict=True)
    ]
    shared = [columns["group"], copied, *([columns["cluster"]] if look_alikes else [])]
    parent_of: dict[tuple[int, object], tuple[int, object]] = {}

    def find_root(key: tuple[int, object]) -> tuple[int, object]:
        while parent_of.setdefault(key, key) != key:
            parent_of[key] = parent_of[parent_of[key]]
            key = parent_of[key]
        return key

    keys = [
        [(kind, value) for kind, value in enumerate(values) if value is not None] if own else []
        for own, *values in zip(is_own(dataset), *shared, strict=True)
    ]
    for own in keys:
        for key in own:
            parent_of[find_root(key)] = find_root(own[0])
    numbers: dict[tuple[int, object], int] = {}
    return [numbers.setdefault(find_root(own[0]), len(numbers)) if own else None for own in keys]


def is_own(dataset: Dataset) -> np.ndarray:
    """bool, (N,): whether each image is the user's own, and of no other domain."""
    return np.asarray([domain == HOME for domain in dataset.table["domain"].to_pylist()], bool)
