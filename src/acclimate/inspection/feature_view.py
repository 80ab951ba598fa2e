"""The images of an inspection and their features, read from the store in blocks."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from acclimate.context import Context
from acclimate.data.blocks import blocks
from acclimate.data.dataset import Dataset, Rows, balanced_sample
from acclimate.errors import DataError
from acclimate.features.extract import extract
from acclimate.features.store import Features
from acclimate.inspection.settings import Inspect
from acclimate.models.classifier import Classifier

_BLOCK = 20_000
"""Images whose features are in memory at once: 100 MB at 1,280 features each."""


@dataclass(frozen=True)
class FeatureView:
    """The images to inspect, and the subset that estimators learn from.

    Attributes:
        classifier: Its backbone extracts the features.
        dataset: Cleaned and split.
        context: The run; its cache keeps the features.
        settings: Estimators, thresholds, and the maximum size of the reference.
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
                "the images are listed but were never read.",
                where=self.dataset.shown_root,
                hint="Clean the data first, with 'unreadable' among clean.checks.",
            )
        return rows

    @cached_property
    def non_test(self) -> Rows:
        """int64: all rows but those of test, which nothing learns from."""
        return np.setdiff1d(self.rows, self.dataset.rows("test"))

    @cached_property
    def reference(self) -> Rows:
        """int64: a class-balanced sample of `non_test`, at most `max_images` rows."""
        rng = np.random.default_rng(self.context.seed_for("inspect"))
        return balanced_sample(self.dataset, self.non_test, self.settings.max_images, rng)

    def features(self, rows: Rows, *, intermediate: bool = False) -> Features:
        """float32, (n, D), of the given rows; (n, D + M) with features of intermediate blocks."""
        return extract(self.classifier, self.dataset, rows, self.context, intermediate=intermediate)

    def blocks(
        self, rows: Rows, *, intermediate: bool = False
    ) -> Iterator[tuple[NDArray[np.int64], Features]]:
        """The features of the given rows, in blocks.

        Args:
            rows: Any number.
            intermediate: As in `features`.

        Yields:
            tuple[NDArray[np.int64], Features]: Positions in `rows`, int64 (n,), with their
                features, float32 (n, D) or (n, D + M).
        """
        for block in blocks(len(rows), _BLOCK):
            places = np.arange(block.start, block.stop)
            yield places, self.features(rows[places], intermediate=intermediate)
