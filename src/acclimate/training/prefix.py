"""Training that begins where the first weights learn: what is before them runs once a view."""

import copy
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from acclimate.context import Context, derive_seed
from acclimate.data.batches import batches
from acclimate.data.contract import Pixels
from acclimate.data.dataset import Rows
from acclimate.data.pixels import GB
from acclimate.files import free_bytes
from acclimate.models.device import on_cpu, on_device
from acclimate.models.division import Division
from acclimate.models.export import graph_of
from acclimate.models.runtime import Normalizer, as_tensor, open_session
from acclimate.training.activations import Activations, Kept, bytes_of
from acclimate.training.views import Views

VIEWS = 4
"""Augmented views of each image that are kept."""

_BATCH = 64


def views_that_fit(division: Division, views: Views, context: Context) -> int:
    """How many views of each training image can be kept: `VIEWS`, or as many as the disk takes.

    Args:
        division: Says how large activations are.
        views: The images.
        context: Its `cache_gb` bounds what is kept; half of what is free on the disk is left.

    Returns:
        0 where not even one fits.
    """
    images, val = (len(views.dataset.rows(split)) for split in ("train", "val"))
    room = min(context.cache_gb * GB, free_bytes(_place(context)) / 2)
    room -= bytes_of(val, 1, division.shape)
    return int(max(0, min(VIEWS, room // max(1, bytes_of(images, 1, division.shape)))))


class Prefix:
    """The frozen part of a network, run once for each view of each image.

    Args:
        division: Of the network.
        views: The images.
        count: Views of each training image.
        device: ONNX Runtime runs the prefix on a CPU, PyTorch elsewhere.
        context: Seed and workspace: a training that was killed finds its activations again.
    """

    def __init__(
        self, division: Division, views: Views, count: int, device: torch.device, context: Context
    ) -> None:
        self.views, self.count, self.seed, self.device = views, count, context.seed, device
        folder = context.workspace or _scratch_of(self)
        train, val = (views.dataset.rows(split) for split in ("train", "val"))
        self._train = Activations(folder / "prefix-train", train, count, division.shape)
        self._val = Activations(folder / "prefix-val", val, 1, division.shape)
        self._infer = _runner(division, views, device)

    def train(self, epoch: int, groups: Sequence[Rows]) -> Iterator[Kept]:
        """The activations of one view of each image; the view of epoch e is e modulo their number.

        Args:
            epoch: From 1.
            groups: int64, (b,) each: images of train.

        Yields:
            Kept: float16, (b, *shape), for each group.
        """
        view = (epoch - 1) % self.count

        def read(row: int) -> Pixels:
            return self.views.train(row, derive_seed(self.seed, "view", view + 1, row))

        return self._computed(self._train, view, groups, read)

    def val(self, rows: Rows) -> Iterator[tuple[Kept, Rows]]:
        """The activations of val images as evaluation sees them.

        Args:
            rows: int64, (n,).

        Yields:
            tuple[Kept, Rows]: float16, (b, *shape), and whose they are.
        """
        groups = [rows[i : i + _BATCH] for i in range(0, len(rows), _BATCH)]
        found = self._computed(self._val, 0, groups, self.views.evaluated.read)
        yield from zip(found, groups, strict=True)

    def to_input(self, activations: torch.Tensor) -> torch.Tensor:
        """float16 to what the suffix reads: float32 on its device, maps with channels last."""
        moved = activations.to(self.device, non_blocking=True).float()
        return moved.contiguous(memory_format=torch.channels_last) if moved.ndim == 4 else moved

    def _computed(
        self,
        store: Activations,
        view: int,
        groups: Sequence[Rows],
        read: Callable[[int], Pixels],
    ) -> Iterator[Kept]:
        lacking = [store.missing(view, rows) for rows in groups]
        coming = batches(self.views.dataset, [rows for rows in lacking if len(rows)], read)
        for rows, missing in zip(groups, lacking, strict=True):
            if len(missing):
                store.put(view, missing, self._infer(next(coming).images))
            yield store.get(view, rows)
        if any(map(len, lacking)):
            store.flush()


def _runner(
    division: Division, views: Views, device: torch.device
) -> Callable[[Pixels], NDArray[np.floating[Any]]]:
    contract = views.contract
    if device.type == "cpu":
        prefix = on_cpu(copy.deepcopy(division.prefix))
        infer = open_session(graph_of(prefix, contract.image_size, "activations"), "cpu")
        return lambda images: infer(contract.normalize(images))
    network, normalize = on_device(division.prefix, device), Normalizer(contract, device)

    def run(images: Pixels) -> NDArray[np.floating[Any]]:
        with torch.inference_mode():
            activations: torch.Tensor = network(normalize(as_tensor(images)))
        return activations.float().cpu().numpy()

    return run


def _scratch_of(owner: object) -> Path:
    """A folder that lasts as long as an object does."""
    folder = tempfile.mkdtemp(prefix="acclimate-")
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _place(context: Context) -> Path:
    return context.workspace or Path(tempfile.gettempdir())
