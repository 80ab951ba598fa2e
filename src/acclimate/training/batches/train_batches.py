"""The order of the images, and each process's part of every batch."""

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
        images: uint8, (b, S, S, 3), or (b, V, S, S, 3) where views are compared; a tensor where
            they were altered on a device; from a loader of the user's own float32, (b, 3, S, S).
        targets: int64 class ids (b,), or float32 probabilities (b, C).
        rows: int64, (b,): where in the table the images stand; of a mixed pair, the first one.
        global_size: Number of images in the batch over all processes.
        weight: 0 where the images are a stand-in.
        consistency: Of several views of each image: weight of what their answers differ by.
    """

    images: Any
    targets: Any
    rows: Rows
    global_size: int
    weight: float
    consistency: float | None = None


@dataclass(frozen=True)
class ValBatch:
    """Some val images.

    Attributes:
        images: As in `TrainBatch`.
        targets: int64 class ids, (b,).
    """

    images: Any
    targets: Any


class BatchSource(Protocol):
    """Where the loop gets its batches from.

    Attributes:
        steps: Batches an epoch.
        images: Training images.
        val_images: Of all processes.
        data: The images, where there is a table of them.
        digest: Stands for all that it feeds, as far as that is known.
    """

    @property
    def steps(self) -> int:
        """Batches an epoch."""

    @property
    def data(self) -> TrainingImages | None:
        """The images, where there is a table of them."""

    @property
    def digest(self) -> str:
        """Stands for all that it feeds, as far as that is known."""

    @property
    def images(self) -> int:
        """Training images."""

    @property
    def val_images(self) -> int:
        """Of all processes; 0 where there is no val."""

    def train_batches(self, epoch: int, skip: int = 0) -> Iterator[TrainBatch]:
        """This process's part of each batch, without the first `skip` ones."""

    def val_batches(self) -> Iterator[ValBatch]:
        """This process's part of val."""

    def to_input(self, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
        """What turns `images` into what the network reads."""

    def forward_module(self, network: nn.Module) -> nn.Module:
        """The part of the network that reads them: mostly all of it."""


class ImageBatches:
    """Training images in batches, the same for any number of processes.

    Nothing random is kept: the order of the images and the augmentations are derived from the
    seed, the epoch and the row.

    Args:
        data: The images.
        batch_size: Over all processes.
        seed: Of the training.
        balanced: Whether each class has the same share of an epoch; see `balanced_order`.
        on: Where images are altered, a batch at once; None leaves it to the decoding threads.
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
        """Batches an epoch."""
        return len(cut(self.rows, self.batch_size))

    @property
    def digest(self) -> str:
        """Stands for the images and how they are seen."""
        return self.data.digest

    @property
    def images(self) -> int:
        """Training images."""
        return len(self.rows)

    @property
    def val_images(self) -> int:
        """Of all processes; 0 where there is no val."""
        return len(self.val)

    def to_input(self, device: torch.device) -> Normalizer:
        """What turns pixels into what the network reads."""
        return Normalizer(self.data.contract, device)

    def forward_module(self, network: nn.Module) -> nn.Module:
        """The whole network reads images."""
        return network

    def groups(self, epoch: int) -> list[Rows]:
        """The rows of each batch of an epoch, over all processes."""
        return cut(self._order(epoch)[0], self.batch_size)

    def val_batches(self) -> Iterator[ValBatch]:
        """This process's part of val, as evaluation sees it."""
        seen = self.data.dataset, self.val[self.rank :: self.processes], self.data.contract
        for batch in ordered_batches(*seen, cached_images=self.data.eval_pictures):
            yield ValBatch(batch.images, batch.targets)

    def train_batches(self, epoch: int, skip: int = 0) -> Iterator[TrainBatch]:
        """This process's part of each batch.

        Every image is seen once an epoch over all processes, none twice, unless classes are
        balanced. Where images are mixed, each process makes the whole batch, so that partners do
        not depend on their number.

        Args:
            epoch: From 1.
            skip: Batches at its beginning that are left out: they were done before a kill.

        Yields:
            TrainBatch: In the epoch's order.
        """
        order, times = self._order(epoch)
        # Places in the order, and not rows: a row that comes twice is seen in two ways.
        wholes = cut(np.arange(len(order)), self.batch_size)[skip:]
        mixing = mixes(self.data.policy)
        loaded_rows = wholes if mixing else [self._part(whole) for whole in wholes]
        labels = self.data.dataset.labels
        kept = self.data.train_pictures  # opened before the threads ask for it
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
        """The training views of each group of places in the order."""
        partial: dict[int, PartialView] = {}

        def load(place: int) -> Pixels:
            row, time = int(order[place]), times[place]
            again = (int(time),) if time else ()
            seed = derive_seed(self.seed, "view", epoch, row, *again)
            # Sizes, where there are any, go by the epoch.
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
        """The rows of an epoch, and how often each came before in it."""
        rng = np.random.default_rng(derive_seed(self.seed, "order", epoch))
        if not self.balanced:
            return rng.permutation(self.rows), np.zeros(len(self.rows), np.int64)
        return balanced_order(self.rows, self.data.dataset.labels[self.rows], rng)

    def _part(self, whole: Any) -> Any:  # noqa: ANN401 - an array or a tensor
        """What this process sees of a batch; one stand-in where the tail leaves it nothing."""
        part = whole[self.rank :: self.processes]
        return part if len(part) else whole[:1]


def cut(rows: Rows, size: int) -> list[Rows]:
    """Rows in batches; a last single one joins the batch before: alone it has no statistics."""
    ends = list(range(size, len(rows), size))
    if ends and len(rows) - ends[-1] == 1:
        ends.pop()
    return list(np.split(rows, ends))
