"""Batch sources of the training loop, and the batches of images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from acclimate.augmentation.batched_operations import finish_batch
from acclimate.augmentation.mixing import mix, mixes
from acclimate.augmentation.sampled import PartialView
from acclimate.context import derive_seed, process_count, process_rank
from acclimate.data.dataset import Rows
from acclimate.data.images.batches import batches, ordered_batches
from acclimate.data.images.contract import Pixels
from acclimate.models.runtime import Normalizer
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.optim.class_imbalance import balanced_order


@dataclass(frozen=True)
class TrainBatch:
    """The part of a batch that one process trains on.

    Attributes:
        images: uint8, (b, S, S, 3), or (b, V, S, S, 3) if views are compared; a tensor if they
            were augmented on a device; float32, (b, 3, S, S), if they come from a DataLoader.
        targets: int64 class ids (b,), or float32 probabilities (b, C).
        rows: int64, (b,): rows of the images in the table; of a mixed pair, of the first one.
        global_size: Number of images in the batch over all processes.
        weight: 1, or 0 if the images only stand in for a missing part of the last batch.
        consistency: Weight of the divergence between views of an image; None for a single view.
    """

    images: Any
    targets: Any
    rows: Rows
    global_size: int
    weight: float
    consistency: float | None = None


@dataclass(frozen=True)
class ValBatch:
    """A batch of val images.

    Attributes:
        images: As in `TrainBatch`.
        targets: int64 class ids, (b,).
    """

    images: Any
    targets: Any


class BatchSource(Protocol):
    """Provides the batches of the training loop.

    Attributes:
        steps: Batches per epoch.
        images: Number of training images.
        val_images: Number of val images over all processes; 0 without val.
        data: The images, if the batches come from a table.
        digest: Identifies the data, as far as it is known.
    """

    @property
    def steps(self) -> int:
        """Batches per epoch."""

    @property
    def data(self) -> TrainingImages | None:
        """The images, if the batches come from a table."""

    @property
    def digest(self) -> str:
        """Identifies the data, as far as it is known."""

    @property
    def images(self) -> int:
        """Number of training images."""

    @property
    def val_images(self) -> int:
        """Number of val images over all processes; 0 without val."""

    def train_batches(self, epoch: int, skip: int = 0) -> Iterator[TrainBatch]:
        """The part of this process of each batch, without the first `skip` batches."""

    def val_batches(self) -> Iterator[ValBatch]:
        """The part of this process of val."""

    def to_input(self, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
        """A function from the images of a batch to the input of the network."""

    def forward_module(self, network: nn.Module) -> nn.Module:
        """The part of the network that runs on the batches: usually all of it."""


class ImageBatches:
    """Batches of images, the same for any number of processes.

    The order of the images and their augmentation are derived from the seed, the epoch and the row.

    Args:
        data: The images.
        batch_size: Batch size over all processes.
        seed: Random seed of the training.
        balanced: Whether an epoch has equally many images of each class; see `balanced_order`.
        on: Device that augments the images in batches; None augments in the loading threads.
    """

    def __init__(
        self,
        data: TrainingImages,
        batch_size: int,
        seed: int,
        *,
        balanced: bool = False,
        on: torch.device | None = None,
    ) -> None:
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.rows, self.val = data.rows, data.dataset.rows("val")
        self.balanced, self.on = balanced, on
        self.consistency = data.policy.consistency if data.policy.compares else None
        self.rank, self.processes = process_rank(), process_count()

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return len(cut(self.rows, self.batch_size))

    @property
    def digest(self) -> str:
        """Identifies the images and everything that is done to them."""
        return self.data.digest

    @property
    def images(self) -> int:
        """Number of training images."""
        return len(self.rows)

    @property
    def val_images(self) -> int:
        """Number of val images over all processes; 0 without val."""
        return len(self.val)

    def to_input(self, device: torch.device) -> Normalizer:
        """Normalizes pixels on the device."""
        return Normalizer(self.data.contract, device)

    def forward_module(self, network: nn.Module) -> nn.Module:
        """The whole network."""
        return network

    def groups(self, epoch: int) -> list[Rows]:
        """The rows of each batch of an epoch over all processes."""
        return cut(self._order(epoch)[0], self.batch_size)

    def val_batches(self) -> Iterator[ValBatch]:
        """The part of this process of val, without augmentation."""
        seen = self.data.dataset, self.val[self.rank :: self.processes], self.data.contract
        for batch in ordered_batches(*seen, cached_images=self.data.eval_pictures):
            yield ValBatch(batch.images, batch.targets)

    def train_batches(self, epoch: int, skip: int = 0) -> Iterator[TrainBatch]:
        """The part of this process of each batch.

        Over all processes every image occurs once per epoch, unless classes are balanced. If images
        are mixed, each process makes the whole batch, so that the pairs do not depend on the number
        of processes.

        Args:
            epoch: Number of the epoch, from 1.
            skip: Batches at its beginning that are left out: they were done before a kill.

        Yields:
            TrainBatch: In the epoch's order.
        """
        order, times = self._order(epoch)
        # Places in the order instead of rows: a row that occurs twice gets two views.
        wholes = cut(np.arange(len(order)), self.batch_size)[skip:]
        mixing = mixes(self.data.policy)
        loaded_rows = wholes if mixing else [self._part(whole) for whole in wholes]
        labels = self.data.dataset.labels
        kept = self.data.train_pictures  # opened before the threads use it
        loaded = zip(self._seen(epoch, order, times, loaded_rows), loaded_rows, wholes, strict=True)
        for index, (seen, places, whole) in enumerate(loaded, skip):
            images, targets = seen, labels[order[places]]
            if mixing:
                rng = np.random.default_rng(derive_seed(self.seed, "mix", epoch, index))
                classes = len(self.data.dataset.classes)
                mixed = mix(images, targets, classes, self.data.policy, rng)
                images, targets = self._part(mixed.images), self._part(mixed.targets)
            rows, weight = order[self._part(whole)], float(self.rank < len(whole))
            yield TrainBatch(images, targets, rows, len(whole), weight, self.consistency)
        kept.flush()

    def _seen(
        self, epoch: int, order: Rows, times: Rows, groups: Sequence[Rows]
    ) -> Iterator[Pixels | torch.Tensor]:
        """The augmented images of each group of places in the order."""
        partial: dict[int, PartialView] = {}

        def load(place: int) -> Pixels:
            row, time = int(order[place]), times[place]
            again = (int(time),) if time else ()
            seed = derive_seed(self.seed, "view", epoch, row, *again)
            # Progressive resizing depends on the epoch.
            given = row, seed, *((epoch,) if self.data.sizes else ())
            if self.on is None:
                return self.data.augmented(*given)
            partial[place] = self.data.partial_view(*given)
            return partial[place].pixels

        for batch in batches(self.data.dataset, groups, load):
            if self.on is None:
                yield batch.images
            else:
                transforms = [partial.pop(int(place)).transforms for place in batch.rows]
                yield finish_batch(batch.images, transforms, self.on)

    def _order(self, epoch: int) -> tuple[Rows, Rows]:
        """The rows of an epoch, and how often each occurred before in it."""
        rng = np.random.default_rng(derive_seed(self.seed, "order", epoch))
        if not self.balanced:
            return rng.permutation(self.rows), np.zeros(len(self.rows), np.int64)
        return balanced_order(self.rows, self.data.dataset.labels[self.rows], rng)

    def _part(self, whole: Any) -> Any:  # noqa: ANN401 - an array or a tensor
        """The part of this process; one image stands in if the last batch leaves it none."""
        part = whole[self.rank :: self.processes]
        return part if len(part) else whole[:1]


def cut(rows: Rows, size: int) -> list[Rows]:
    """Rows in batches. A single last row joins the batch before it, for the sake of batch norm."""
    ends = list(range(size, len(rows), size))
    if ends and len(rows) - ends[-1] == 1:
        ends.pop()
    return list(np.split(rows, ends))
