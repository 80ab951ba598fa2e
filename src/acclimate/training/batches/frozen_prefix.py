"""Training that begins where the first weights learn: what is before them runs once a view."""

import copy
import shutil
import tempfile
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from acclimate.augmentation.mixing import mixes
from acclimate.context import Context, derive_seed, process_count
from acclimate.data.dataset import Rows
from acclimate.data.images.batches import batches
from acclimate.data.images.contract import Pixels
from acclimate.data.images.pixel_cache import GB
from acclimate.errors import count as plural
from acclimate.files import free_bytes
from acclimate.models.device import on_cpu
from acclimate.models.onnx.export import export_network
from acclimate.models.runtime import run_frozen
from acclimate.models.split_network import CannotSplitError, SplitNetwork, split_network
from acclimate.settings import Auto
from acclimate.training.batches.activation_cache import Activations, Kept, bytes_of
from acclimate.training.batches.train_batches import ImageBatches, TrainBatch, ValBatch
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.plan import TrainPlan

VIEWS = 4
"""Augmented views of each image that are kept, where nobody says how many. CIFAR-10, 2,000 images,
128 px, all but the first third learning, 12 epochs: 0.852 in 221 s; all layers, each epoch another
view: 0.841 in 531 s."""

_BATCH = 64


def views_that_fit(
    division: SplitNetwork, data: TrainingImages, wanted: int, context: Context
) -> int:
    """How many views of each training image can be kept: those wanted, or what the disk takes.

    Args:
        division: Says how large activations are.
        data: The images.
        wanted: At most.
        context: Its `cache_gb` bounds what is kept; half of what is free on the disk is left.

    Returns:
        0 where not even one fits.
    """
    images, val = (len(data.dataset.rows(split)) for split in ("train", "val"))
    room = min(context.cache_gb * GB, free_bytes(_place(context)) / 2)
    room -= bytes_of(val, 1, division.shape)
    return int(max(0, min(wanted, room // max(1, bytes_of(images, 1, division.shape)))))


class Prefix:
    """The frozen part of a network, run once for each view of each image.

    Args:
        division: Of the network.
        data: The images.
        count: Views of each training image.
        device: ONNX Runtime runs the prefix on a CPU, PyTorch elsewhere.
        context: Seed and workspace: a training that was killed finds its activations again.
    """

    def __init__(
        self,
        division: SplitNetwork,
        data: TrainingImages,
        count: int,
        device: torch.device,
        context: Context,
    ) -> None:
        self.data, self.count, self.seed, self.device = data, count, context.seed, device
        folder = context.workspace or _scratch_of(self)
        train, val = (data.dataset.rows(split) for split in ("train", "val"))
        self._train = Activations(folder / "prefix-train", train, count, division.shape)
        self._val = Activations(folder / "prefix-val", val, 1, division.shape)

        def graph() -> bytes:
            size = data.contract.image_size
            return export_network(on_cpu(copy.deepcopy(division.prefix)), size, "activations")

        self._infer = run_frozen(division.prefix, data.contract, device, graph)

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
            return self.data.augmented(row, derive_seed(self.seed, "view", view + 1, row))

        yield from self._computed(self._train, view, groups, read)

    def val(self, rows: Rows) -> Iterator[tuple[Kept, Rows]]:
        """The activations of val images as evaluation sees them.

        Args:
            rows: int64, (n,).

        Yields:
            tuple[Kept, Rows]: float16, (b, *shape), and whose they are.
        """
        groups = [rows[i : i + _BATCH] for i in range(0, len(rows), _BATCH)]
        found = self._computed(self._val, 0, groups, self.data.eval_pictures.read)
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
        coming = batches(self.data.dataset, [rows for rows in lacking if len(rows)], read)
        for rows, missing in zip(groups, lacking, strict=True):
            if len(missing):
                store.put(view, missing, self._infer(next(coming).images))
            yield store.get(view, rows)
        if any(map(len, lacking)):
            store.flush()


class ActivationBatches:
    """What the loop is fed with where a prefix is frozen: activations in place of images.

    Args:
        source: Of the images; gives the order.
        division: Of the network.
        prefix: Runs the images.
    """

    def __init__(self, source: ImageBatches, division: SplitNetwork, prefix: Prefix) -> None:
        self.source, self.division, self.prefix = source, division, prefix
        self.steps, self.images, self.val_images = source.steps, source.images, source.val_images
        self.data = source.data

    @property
    def digest(self) -> str:
        """Stands for the images."""
        return self.source.digest

    def train_batches(self, epoch: int, skip: int = 0) -> Generator[TrainBatch, None, None]:
        """Activations of one view of each image, in the order of the images.

        Args:
            epoch: From 1.
            skip: Batches at its beginning that are left out: they were done before a kill.

        Yields:
            TrainBatch: Its `images` are float16, (b, *shape).
        """
        groups, labels = self.source.groups(epoch)[skip:], self.source.data.dataset.labels
        for rows, kept in zip(groups, self.prefix.train(epoch, groups), strict=True):
            yield TrainBatch(kept, labels[rows], rows, len(rows), 1.0)

    def val_batches(self) -> Iterator[ValBatch]:
        """Activations of val, as evaluation sees it."""
        labels = self.source.data.dataset.labels
        for kept, rows in self.prefix.val(self.source.val):
            yield ValBatch(kept, labels[rows])

    def to_input(self, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
        """What turns activations into what the suffix reads."""
        return self.prefix.to_input

    def forward_module(self, network: nn.Module) -> nn.Module:
        """The suffix, whose layers are the network's."""
        return self.division.suffix


@dataclass(frozen=True)
class FrozenPart:
    """What becomes of a network's frozen first part.

    Attributes:
        told: What was decided, and why: one sentence without a full stop.
        source: Batches of kept activations; None where the images themselves must be seen.
    """

    told: str
    source: ActivationBatches | None = None


def frozen_prefix(
    network: nn.Module, data: TrainingImages, plan: TrainPlan, wanted: int | Auto, context: Context
) -> FrozenPart:
    """Batches of kept activations, where a network's first part is frozen and they can be kept.

    Args:
        network: On the CPU; frozen weights have `requires_grad` off. Its layers are shared.
        data: The images.
        plan: Numbers.
        wanted: Views of each image, at most; `VIEWS` where it is "auto".
        context: Seed, workspace, how much may be kept. Is told what was decided, and why.

    Returns:
        The batches, and what was decided.
    """
    part = _frozen_part(network, data, plan, wanted, context)
    context.progress.info(f"frozen part: {part.told}")
    return part


def _frozen_part(
    network: nn.Module, data: TrainingImages, plan: TrainPlan, wanted: int | Auto, context: Context
) -> FrozenPart:
    reason = "prefix_views is 0" if wanted == 0 else reason_not_to_cache(data, plan)
    if reason is None:
        try:
            most = VIEWS if wanted == "auto" else wanted
            division, fitting = split_at_frozen(network, data, most, context)
        except CannotSplitError as error:
            reason = str(error)
    if reason is not None:
        return FrozenPart(f"run in every step, because {reason}")
    count = min(plan.epochs, fitting)
    size = bytes_of(len(data.rows), count, division.shape) / GB
    why = "set by prefix_views" if wanted != "auto" else "the default of prefix_views"
    if fitting < most:
        why = f"of {most}; more do not fit cache_gb or the disk"
    if count < fitting:
        why = "one for each epoch"
    told = (
        f"run once for each of {plural(count, 'view')} per image ({why}) and cached: "
        f"{' x '.join(map(str, division.shape))} values per view, {size:.2g} GB"
    )
    source = ImageBatches(data, plan.batch_size, context.seed)
    prefix = Prefix(division, data, count, torch.device(plan.device), context)
    return FrozenPart(told, ActivationBatches(source, division, prefix))


def split_at_frozen(
    network: nn.Module, data: TrainingImages, wanted: int, context: Context
) -> tuple[SplitNetwork, int]:
    """A network cut where its frozen part ends.

    Args:
        network: On the CPU; frozen weights have `requires_grad` off. Its layers are shared.
        data: The images.
        wanted: Views of each image, at most.
        context: How much may be kept.

    Returns:
        Both parts, and of how many views the activations can be kept, one at least.

    Raises:
        CannotSplitError: It cannot be cut, or not even one view can be kept.
    """
    division = split_network(network, data.contract.image_size)
    fitting = views_that_fit(division, data, wanted, context)
    if not fitting:
        raise CannotSplitError(f"one view per image does not fit {context.cache_gb:g} GB")
    return division, fitting


def reason_not_to_cache(data: TrainingImages, plan: TrainPlan) -> str | None:
    """Why kept activations would not be what the training sees; None where they would be.

    Args:
        data: The images.
        plan: Numbers.

    Returns:
        The end of a sentence that says "since".
    """
    if mixes(data.policy):
        return "the policy mixes images"
    if data.policy.compares:
        return "the loss compares views"
    if data.sizes:
        return "start_size changes the image size"
    if plan.balanced:
        return "sampling is balanced"
    if process_count() > 1:
        return "several processes train"
    return None


def _scratch_of(owner: object) -> Path:
    """A folder that lasts as long as an object does."""
    folder = tempfile.mkdtemp(prefix="acclimate-")
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _place(context: Context) -> Path:
    """Where activations will stand; a workspace may not have been made yet."""
    place = context.workspace or Path(tempfile.gettempdir())
    return next(folder for folder in (place, *place.parents) if folder.exists())
