"""The images as the frozen backbone sees them: read from the store, a block at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from acclimate.context import Context
from acclimate.data.dataset import Dataset, Rows, balanced
from acclimate.errors import DataError
from acclimate.features.extract import extract
from acclimate.features.store import Features
from acclimate.inspection.settings import Inspect
from acclimate.models.classifier import Classifier

_BLOCK = 20_000
"""Images whose features are held at once: 100 MB of 1,280 numbers."""


@dataclass(frozen=True)
class View:
    """Which images are looked at, and which of them others are measured by.

    Attributes:
        classifier: Its backbone is used.
        dataset: Cleaned and split.
        context: The run; its cache keeps the features.
        settings: Who judges, from which score on; how many images the reference holds at most.
    """

    classifier: Classifier
    dataset: Dataset
    context: Context
    settings: Inspect

    @cached_property
    def rows(self) -> Rows:
        """int64: the kept images of the user's own domain."""
        rows = self.dataset.rows()
        if self.dataset.table["digest"].take(rows).null_count:
            raise DataError(
                "images were listed but never looked at.",
                where=self.dataset.root,
                hint="Clean the data first, with 'unreadable' among clean.checks.",
            )
        return rows

    @cached_property
    def learning(self) -> Rows:
        """int64: those that do not judge: nothing is measured by a test image."""
        return np.setdiff1d(self.rows, self.dataset.rows("test"))

    @cached_property
    def reference(self) -> Rows:
        """int64: at most `max_images` of `learning`, as many of each class as there are."""
        rng = np.random.default_rng(self.context.seed_for("inspect"))
        return balanced(self.dataset, self.learning, self.settings.max_images, rng)

    def features(self, rows: Rows, *, intermediate: bool = False) -> Features:
        """float32, (n, D), of some rows; (n, D + M) with what the network knew halfway."""
        return extract(self.classifier, self.dataset, rows, self.context, intermediate=intermediate)

    def blocks(
        self, rows: Rows, *, intermediate: bool = False
    ) -> Iterator[tuple[NDArray[np.int64], Features]]:
        """Some rows in blocks.

        Args:
            rows: Any number.
            intermediate: As in `features`.

        Yields:
            tuple[NDArray[np.int64], Features]: Positions in `rows`, int64 (n,), with their
                features, float32 (n, D) or (n, D + M).
        """
        for start in range(0, len(rows), _BLOCK):
            places = np.arange(start, min(start + _BLOCK, len(rows)))
            yield places, self.features(rows[places], intermediate=intermediate)
