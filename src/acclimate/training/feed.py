"""The order of the images, and each process's part of every batch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate.augmentation.mixing import mix, mixes
from acclimate.context import derive_seed, process_count, process_rank
from acclimate.data.batches import batches
from acclimate.data.contract import Pixels
from acclimate.data.dataset import Rows
from acclimate.training.views import Views


@dataclass(frozen=True)
class Share:
    """One process's part of a batch.

    Attributes:
        images: uint8, (b, S, S, 3).
        targets: int64 class ids (b,), or float32 probabilities (b, C).
        rows: int64, (b,): where in the table the images stand; of a mixed pair, the first one.
        whole: Images in the batch, over all processes.
        weight: 0 where the images are a stand-in.
    """

    images: Pixels
    targets: NDArray[Any]
    rows: Rows
    whole: int
    weight: float


class Feed:
    """Training images in batches, the same for any number of processes.

    Nothing random is kept: the order of the images and the augmentations are derived from the
    seed, the epoch and the row.

    Args:
        views: The images.
        batch_size: Over all processes.
        seed: Of the training.
    """

    def __init__(self, views: Views, batch_size: int, seed: int) -> None:
        self.views, self.batch_size, self.seed = views, batch_size, seed
        self.rows = views.rows
        self.rank, self.processes = process_rank(), process_count()

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return len(_cut(self.rows, self.batch_size))

    def epoch(self, epoch: int, after: int = 0) -> Iterator[Share]:
        """This process's part of each batch.

        Every image is seen once an epoch over all processes, none twice. Where images are mixed,
        each process makes the whole batch, so that partners do not depend on their number.

        Args:
            epoch: From 1.
            after: Batches of it that were done before a training was killed.

        Yields:
            Share: In the epoch's order.
        """
        order = np.random.default_rng(derive_seed(self.seed, "order", epoch))
        wholes = _cut(order.permutation(self.rows), self.batch_size)[after:]
        mixing = mixes(self.views.policy)
        loaded_rows = wholes if mixing else [self._part(whole) for whole in wholes]

        def load(row: int) -> Pixels:
            seed = derive_seed(self.seed, "view", epoch, row)
            # Sizes, where there are any, go by the epoch.
            return self.views.train(row, seed, *((epoch,) if self.views.sizes else ()))

        kept = self.views.trained  # opened before the threads ask for it
        loaded = batches(self.views.dataset, loaded_rows, load)
        for index, (batch, whole) in enumerate(zip(loaded, wholes, strict=True), after):
            images, targets, rows = batch.images, batch.targets, self._part(whole)
            if mixing:
                rng = np.random.default_rng(derive_seed(self.seed, "mix", epoch, index))
                classes = len(self.views.dataset.classes)
                mixed = mix(images, targets, classes, self.views.policy, rng)
                images, targets = self._part(mixed.images), self._part(mixed.targets)
            yield Share(images, targets, rows, len(whole), float(self.rank < len(whole)))
        kept.flush()

    def _part(self, whole: NDArray[Any]) -> NDArray[Any]:
        """What this process sees of a batch; one stand-in where the tail leaves it nothing."""
        part = whole[self.rank :: self.processes]
        return part if len(part) else whole[:1]


def _cut(rows: Rows, size: int) -> list[Rows]:
    """Rows in batches; a last single one joins the batch before: alone it has no statistics."""
    ends = list(range(size, len(rows), size))
    if ends and len(rows) - ends[-1] == 1:
        ends.pop()
    return list(np.split(rows, ends))
