"""A batch source of a DataLoader: float images and labels, as they come."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from acclimate.context import derive_seed, process_count
from acclimate.errors import DataError, ModelFileError, RecipeError, count, reason
from acclimate.files import digest_bytes, digest_json
from acclimate.models.outputs import main_logits
from acclimate.training.batches.train_batches import TrainBatch, ValBatch

_WANTED = "Give pairs (images: float (B, 3, H, W), labels: int (B,) or probabilities (B, C))."


class LoaderBatches:
    """Checked batches of a DataLoader.

    The seed of the training determines its order and random transforms if they use PyTorch's global
    generator, as a DataLoader does unless it has a generator of its own.

    Args:
        network: Network to train, which gives the number of logits.
        loader: Pairs of images and labels; has a length.
        val: The same for val; None trains without val.
        seed: Random seed of the training.

    Attributes:
        example: float32, (2, 3, H, W): the first images, or the first one.

    Raises:
        DataError: Batches have a wrong type or shape.
        ModelFileError: The network cannot be run on them.
        RecipeError: There are several processes.
    """

    def __init__(
        self, network: nn.Module, loader: Iterable[Any], val: Iterable[Any] | None, seed: int
    ) -> None:
        if process_count() > 1:
            raise RecipeError(
                "a DataLoader can only be trained on in one process.",
                hint="Give a folder or a list of images to train in several processes.",
            )
        self.loader, self.val, self.seed = loader, val, seed
        self.steps = _length(loader, "loader")
        torch.manual_seed(derive_seed(seed, "first"))
        images, labels = _pair(next(iter(loader), None), "loader", 0)
        self.classes = _logits(network, images)
        _check(images, labels, self.classes, "loader", 0)
        self.batch_size, self.example = len(images), images[:2]
        whole = getattr(loader, "dataset", None)
        known = hasattr(whole, "__len__") and not getattr(loader, "drop_last", False)
        self.images = len(whole) if known and whole is not None else self.steps * self.batch_size
        self.val_images, self.data = 0, None
        val_labels: list[int] = []
        if val is not None:
            _length(val, "val")
            for batch in self.val_batches():
                val_labels += batch.targets.tolist()
            self.val_images = len(val_labels)
        # The images are not known before they are loaded, and their order may change.
        content = [self.images, self.steps, list(images.shape), self.classes, sorted(val_labels)]
        self.digest = digest_json([*content, _content(whole)])

    def train_batches(self, epoch: int, skip: int = 0) -> Iterator[TrainBatch]:
        """The batches of the loader, without the first `skip` ones.

        Args:
            epoch: Number of the epoch, from 1.
            skip: Batches at its beginning that are left out: they were done before a kill.

        Yields:
            TrainBatch: `rows` count the epoch's images.

        Raises:
            DataError: A batch has a wrong type or shape.
        """
        batches: Iterator[Any] | None = None
        row = 0
        for index in range(self.steps):
            # Before each batch, because the steps in between use this generator too.
            torch.manual_seed(derive_seed(self.seed, "loader", epoch, index))
            batches = iter(self.loader) if batches is None else batches
            images, labels = _pair(next(batches, None), "loader", index)
            rows = np.arange(row, row + len(images))
            row += len(images)
            if index >= skip:
                _check(images, labels, self.classes, "loader", index)
                yield TrainBatch(images, labels, rows, len(images), 1.0)

    def val_batches(self) -> Iterator[ValBatch]:
        """The batches of val.

        Yields:
            ValBatch: Labels are class ids.

        Raises:
            DataError: A batch has a wrong type or shape, or non-finite pixels.
        """
        for index, batch in enumerate(self.val or ()):
            images, labels = _pair(batch, "val", index)
            _check(images, labels, self.classes, "val", index)
            broken = (~images.flatten(1).isfinite().all(1)).nonzero().flatten().tolist()
            if broken:
                held = "holds" if len(broken) == 1 else "hold"
                raise DataError(
                    f"{count(len(broken), 'image')} ({broken[0]} first) of batch {index} {held} "
                    "non-finite pixels.",
                    where="val",
                )
            yield ValBatch(images, labels if labels.ndim == 1 else labels.argmax(1))

    def forward_module(self, network: nn.Module) -> nn.Module:
        """The whole network."""
        return network

    def to_input(self, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
        """Moves images, which are normalized already, to the device."""
        return lambda images: images.to(
            device, memory_format=torch.channels_last, non_blocking=True
        )


def _content(dataset: object) -> list[object]:
    """The content of common PyTorch data sets: tensors, files, labels, subsets."""
    found: list[object] = []
    for tensor in getattr(dataset, "tensors", ()):
        array = tensor.detach().cpu().contiguous()
        found.append([str(array.dtype), digest_bytes(array.flatten().view(torch.uint8).numpy())])
    for name in ("samples", "targets", "indices"):
        if isinstance(listed := getattr(dataset, name, None), (list, tuple, torch.Tensor)):
            found.append([name, digest_bytes(repr(list(listed)).encode())])
    inner = getattr(dataset, "dataset", None)
    return [*found, _content(inner)] if inner is not None else found


def _length(loader: Iterable[Any], name: str) -> int:
    try:
        steps = len(loader)  # type: ignore[arg-type]
    except TypeError as error:
        raise DataError(
            f"{type(loader).__name__} has no length.",
            where=name,
            hint="Give a loader with a length: the schedule needs the number of steps.",
        ) from error
    if not steps:
        raise DataError("loader has no batches.", where=name)
    return steps


def _pair(batch: object, name: str, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    if batch is None:
        raise DataError(
            f"loader ended before batch {index}: it has fewer batches than its length.", where=name
        )
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise DataError(
            f"batch {index} is a {type(batch).__name__}, not a pair.", where=name, hint=_WANTED
        )
    images, labels = batch
    if not isinstance(images, torch.Tensor) or not isinstance(labels, torch.Tensor):
        kinds = f"{type(images).__name__} and {type(labels).__name__}"
        raise DataError(f"batch {index} holds {kinds}, not tensors.", where=name, hint=_WANTED)
    shown = f"{images.dtype} {tuple(images.shape)}".removeprefix("torch.")
    if images.ndim != 4 or not images.is_floating_point() or not len(images):
        raise DataError(f"images of batch {index} are {shown}.", where=name, hint=_WANTED)
    # Integers of any width, and a column of them, are accepted as labels.
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    return images.float(), labels.float() if labels.is_floating_point() else labels.long()


def _check(images: torch.Tensor, labels: torch.Tensor, classes: int, name: str, index: int) -> None:
    wanted = (len(images), classes) if labels.is_floating_point() else (len(images),)
    if tuple(labels.shape) != wanted:
        shown = f"{labels.dtype} {tuple(labels.shape)}".removeprefix("torch.")
        raise DataError(
            f"labels of batch {index} are {shown} for {count(len(images), 'image')} and "
            f"{classes} logits.",
            where=name,
            hint=_WANTED,
        )
    if labels.is_floating_point():
        return
    outside = labels[(labels < 0) | (labels >= classes)]
    if len(outside):
        raise DataError(
            f"label {int(outside[0])} in batch {index} is out of range: the network has "
            f"{classes} logits, so labels go from 0 to {classes - 1}.",
            where=name,
        )


def _logits(network: nn.Module, images: torch.Tensor) -> int:
    """Number of logits of the network."""
    kind, shape = type(network).__name__, tuple(images.shape[1:])
    parameter = next(network.parameters(), None)
    device = images.device if parameter is None else parameter.device
    was_training = network.training
    try:
        with torch.inference_mode():
            output = network.eval()(images[:1].to(device))
    except Exception as error:  # whatever a strange network does with such an input
        raise ModelFileError(
            f"{kind} cannot be run on the loader's images, float32 {shape} ({reason(error)})."
        ) from error
    finally:
        network.train(was_training)
    logits = main_logits(output)
    if logits is None or logits.ndim != 2 or len(logits) != 1:
        made = type(output).__name__ if logits is None else tuple(logits.shape)
        raise ModelFileError(f"{kind} returns {made} for one image, not logits (1, C).")
    return int(logits.shape[1])
