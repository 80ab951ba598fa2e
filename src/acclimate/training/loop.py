"""The only training loop. Stages differ by the objective and the plan they hand to it."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from acclimate.augmentation.mixing import mix, mixes
from acclimate.augmentation.policy import Policy
from acclimate.context import Context, derive_seed, process_count, process_rank
from acclimate.data.batches import batches, in_order
from acclimate.data.contract import InputContract, Pixels
from acclimate.data.dataset import Dataset, Rows
from acclimate.data.picture import Picture
from acclimate.data.versions import Pictures, evaluated, roomy
from acclimate.errors import RecipeError
from acclimate.models.device import on_cpu, on_device
from acclimate.models.runtime import Normalizer
from acclimate.progress import Progress, silent
from acclimate.training.checkpoint import Epoch, TrainState, find_state, save_state
from acclimate.training.optimizers import OPTIMIZERS, OptimizerFactory, parameter_groups
from acclimate.training.plan import TrainPlan
from acclimate.training.processes import launched
from acclimate.training.schedules import factor

Objective = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits (B, C), inputs (B, 3, S, S), targets (B,) or (B, C)) to one loss an image (B,)."""

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Views:
    """Which images are trained on, and how they are seen.

    Attributes:
        dataset: The table.
        policy: What is done to training images.
        contract: What the network expects.
        context: Says where decoded images are kept; None keeps none.
    """

    dataset: Dataset
    policy: Policy
    contract: InputContract
    context: Context | None = None

    @cached_property
    def evaluated(self) -> Pictures:
        """The images as evaluation sees them."""
        return Pictures(self.dataset, evaluated(self.contract), self.context)

    @cached_property
    def trained(self) -> Pictures:
        """What training views are made of."""
        if self._crops:
            return Pictures(self.dataset, roomy(self.contract), self.context)
        return self.evaluated

    @cached_property
    def _drawn_by(self) -> InputContract:
        """Without random crops the images are at the network's size already, and cropped."""
        return self.contract if self._crops else replace(self.contract, crop=1.0)

    @property
    def _crops(self) -> bool:
        return self.policy.crop_area < 1

    def train(self, row: int, seed: int) -> Pixels:
        """One training view, governed by the seed alone: uint8, (S, S, 3)."""
        image = Picture(self.trained.read(row))
        return self.policy.apply(image, self._drawn_by, np.random.default_rng(seed))


@dataclass(frozen=True)
class Trained:
    """What a training gives.

    Attributes:
        network: With the best weights, on the CPU, in evaluation mode.
        curve: One entry an epoch, the start first.
        best_epoch: Where val was best; 0 is the start.
    """

    network: nn.Module
    curve: tuple[Epoch, ...]
    best_epoch: int

    @property
    def best(self) -> Epoch:
        """The curve at the best epoch."""
        return self.curve[self.best_epoch]


def train(
    network: nn.Module,
    views: Views,
    objective: Objective,
    plan: TrainPlan,
    *,
    context: Context,
    optimizer: OptimizerFactory | None = None,
    keep_start: bool = True,
) -> Trained:
    """Trains a network and keeps the weights that were best on val, the start included.

    Best is the lowest val loss among the epochs whose val accuracy is within one standard error
    of the highest, and not below the start's.

    On resuming, in this order: weights, best weights, optimizer, curve, epoch. Nothing random is
    kept: the order of the images and the augmentations are derived from the seed, the epoch and
    the row, so they do not depend on the number of processes or threads either.

    Args:
        network: Changed in place.
        views: The images.
        objective: What is made small.
        plan: Numbers.
        context: Seed, workspace, progress.
        optimizer: In place of the one that the plan names.
        keep_start: Whether the start comes back where no epoch is as accurate on val.

    Returns:
        The trained network and its curve.

    Raises:
        RecipeError: The loss is no longer a number.
    """
    fabric = launched(plan)
    groups = parameter_groups(
        network,
        learning_rate=plan.learning_rate,
        layer_decay=plan.layer_decay,
        weight_decay=plan.weight_decay,
    )
    network = on_device(network, fabric.device)
    rule = (optimizer or OPTIMIZERS[plan.optimizer])(groups)
    run = _Run(fabric, network, rule, views, objective, plan, context, keep_start)
    return run.to_the_end()


@dataclass(frozen=True)
class _Share:
    """One process's part of a batch.

    Attributes:
        images: uint8, (b, S, S, 3).
        targets: int64 class ids (b,), or float32 probabilities (b, C).
        whole: Images in the batch, over all processes.
        weight: 0 where the images are a stand-in.
    """

    images: Pixels
    targets: NDArray[Any]
    whole: int
    weight: float


class _Run:
    """One training under way: the pieces that every step needs."""

    def __init__(
        self,
        fabric: Fabric,
        network: nn.Module,
        rule: torch.optim.Optimizer,
        views: Views,
        objective: Objective,
        plan: TrainPlan,
        context: Context,
        keep_start: bool,
    ) -> None:
        self.fabric, self.plain, self.keep_start = fabric, network, keep_start
        self.views = views if views.context else replace(views, context=context)
        self.objective, self.plan, self.context = objective, plan, context
        self.rank, self.processes = process_rank(), process_count()
        self.progress: Progress = context.progress if self.rank == 0 else silent
        self.rows = views.dataset.rows("train")
        self.val = views.dataset.rows("val")
        self.steps_per_epoch = len(_cut(self.rows, plan.batch_size))
        self.to_input = Normalizer(views.contract, fabric.device)
        self.rule = rule
        state = find_state(context.workspace)
        if state is not None:
            network.load_state_dict(state.network)
        self.network, self.rule = fabric.setup(network, rule)
        self.state = state or self._start()
        if state is not None:
            self.rule.load_state_dict(state.optimizer)
            self.progress.say(f"going on after epoch {state.epoch} of {plan.epochs}")
        self.began = time.monotonic() - self.state.curve[-1].seconds

    def to_the_end(self) -> Trained:
        """Epoch by epoch, until the plan or the patience ends."""
        state = self.state
        while state.epoch < self.plan.epochs:
            if _stale(state.curve) >= self.plan.patience:
                self.progress.say(f"stopped: val got no better for {self.plan.patience} epochs")
                break
            self._epoch(state.epoch + 1)
        self.plain.load_state_dict(state.best)
        return Trained(on_cpu(self.plain), tuple(state.curve), state.best_epoch)

    def _start(self) -> TrainState:
        start = Epoch(0, math.nan, *self._validate(), 0.0, 0.0)
        self.progress.say(
            f"start: val loss {start.val_loss:.3f}, val accuracy {start.val_accuracy:.3f}"
        )
        weights = _copied(self.plain)
        return TrainState(0, [start], 0, weights, weights, self.rule.state_dict())

    def _epoch(self, epoch: int) -> None:
        loss = self._train_epoch(epoch)
        val_loss, val_accuracy = self._validate()
        if len(self.val) and not math.isfinite(val_loss):
            raise self._diverged("val loss", val_loss, f"the end of epoch {epoch}")
        rate = self.rule.param_groups[-1]["lr"]
        line = Epoch(epoch, loss, val_loss, val_accuracy, rate, time.monotonic() - self.began)
        state = self.state
        state.epoch = epoch
        state.curve.append(line)
        least = state.curve[0].val_accuracy if self.keep_start else 0.0
        if _preferred(line, state.curve[state.best_epoch], state.curve, len(self.val), least):
            state.best_epoch, state.best = epoch, _copied(self.plain)
        self.progress.say(
            f"epoch {epoch}/{self.plan.epochs}: train loss {loss:.3f}, val loss {val_loss:.3f}, "
            f"val accuracy {val_accuracy:.3f}{' (kept)' if state.best_epoch == epoch else ''}"
        )
        if self.context.workspace is not None and self.rank == 0:
            state.network, state.optimizer = _copied(self.plain), self.rule.state_dict()
            save_state(state, self.context.workspace)

    def _train_epoch(self, epoch: int) -> float:
        self.network.train()
        if self.plan.freeze_batch_norm:
            for module in self.plain.modules():
                if isinstance(module, _NORMS):
                    module.eval()
        # Dropout and stochastic depth draw from the global generator.
        torch.manual_seed(derive_seed(self.context.seed, "dropout", epoch, self.rank) % 2**63)
        total = 0.0
        with self.progress.task(f"epoch {epoch}", len(self.rows)) as task:
            for index, share in enumerate(self._shares(epoch)):
                loss = self._step((epoch - 1) * self.steps_per_epoch + index, share)
                total += loss
                task.advance(share.whole)
                task.note(f"loss {loss / share.whole:.3f}")
        return total / len(self.rows)

    def _step(self, step: int, share: "_Share") -> float:
        """One update. Returns the summed loss over the images of all processes."""
        scale = factor(self.plan.schedule, step, self._all_steps, self.plan.warmup)
        for group in self.rule.param_groups:
            group["lr"] = group["peak"] * scale
        inputs = self.to_input(torch.from_numpy(share.images))
        targets = torch.from_numpy(share.targets).to(self.fabric.device)
        losses = self.objective(self.network(inputs), inputs, targets) * share.weight
        # Gradients are averaged over processes: times their number, over the whole batch, gives
        # the very gradient that one process would have.
        self.fabric.backward(losses.sum() * (self.processes / share.whole))
        summed = self._summed(losses.detach().sum())
        if not math.isfinite(summed):
            raise self._diverged("loss", summed, f"step {step}")
        length = self.fabric.clip_gradients(
            self.network,
            self.rule,
            max_norm=self.plan.max_gradient_norm,
            error_if_nonfinite=False,
        )
        if length is not None and not math.isfinite(float(length)):
            raise self._diverged("the gradient's length", float(length), f"step {step}")
        self.rule.step()
        self.rule.zero_grad()
        return summed

    def _diverged(self, what: str, value: float, when: str) -> RecipeError:
        return RecipeError(
            f"{what} is {value} at {when}: the training diverges.",
            where="learning_rate",
            hint=f"Lower it; it was {self.plan.learning_rate:g}.",
        )

    @property
    def _all_steps(self) -> int:
        return self.steps_per_epoch * self.plan.epochs

    def _shares(self, epoch: int) -> Iterator["_Share"]:
        """This process's part of each batch.

        Every image is seen once an epoch over all processes, none twice. Where images are mixed,
        each process makes the whole batch, so that partners do not depend on their number.
        """
        order = np.random.default_rng(derive_seed(self.context.seed, "order", epoch))
        rows = order.permutation(self.rows)
        wholes = _cut(rows, self.plan.batch_size)
        mixing = mixes(self.views.policy)
        shares = wholes if mixing else [self._part(whole) for whole in wholes]

        def load(row: int) -> Pixels:
            seed = derive_seed(self.context.seed, "view", epoch, row)
            return self.views.train(row, seed)

        kept = self.views.trained  # opened before the threads ask for it
        loaded = batches(self.views.dataset, shares, load)
        for index, (batch, whole) in enumerate(zip(loaded, wholes, strict=True)):
            images, targets = batch.images, batch.targets
            if mixing:
                rng = np.random.default_rng(derive_seed(self.context.seed, "mix", epoch, index))
                classes = len(self.views.dataset.classes)
                mixed = mix(images, targets, classes, self.views.policy, rng)
                images, targets = self._part(mixed.images), self._part(mixed.targets)
            yield _Share(images, targets, len(whole), float(self.rank < len(whole)))
        kept.flush()

    def _part(self, whole: NDArray[Any]) -> NDArray[Any]:
        """What this process sees of a batch; one stand-in where the tail leaves it nothing."""
        part = whole[self.rank :: self.processes]
        return part if len(part) else whole[:1]

    def _validate(self) -> tuple[float, float]:
        """Cross-entropy and accuracy on val; NaN and 0 where there is no val."""
        if not len(self.val):
            return math.nan, 0.0
        self.network.eval()
        sums = torch.zeros(2, dtype=torch.float64)
        mine = self.val[self.rank :: self.processes]
        seen = self.views.dataset, mine, self.views.contract
        with torch.inference_mode():
            for batch in in_order(*seen, pictures=self.views.evaluated):
                inputs = self.to_input(torch.from_numpy(batch.images))
                logits = self.network(inputs).float().cpu()
                targets = torch.from_numpy(batch.targets)
                sums[0] += functional.cross_entropy(logits, targets, reduction="sum")
                sums[1] += (logits.argmax(1) == targets).sum()
        total = [self._summed(value) / len(self.val) for value in sums]
        return total[0], total[1]

    def _summed(self, value: torch.Tensor) -> float:
        if self.processes == 1:
            return float(value)
        moved = value.to(self.fabric.device, torch.float32)
        return float(self.fabric.all_reduce(moved, reduce_op="sum"))


def _cut(rows: Rows, size: int) -> list[Rows]:
    """Rows in batches; a last single one joins the batch before: alone it has no statistics."""
    ends = list(range(size, len(rows), size))
    if ends and len(rows) - ends[-1] == 1:
        ends.pop()
    return list(np.split(rows, ends))


def _preferred(line: Epoch, kept: Epoch, curve: list[Epoch], images: int, least: float) -> bool:
    """Whether an epoch takes the place of the one kept so far.

    Never one below the least accuracy. Among the others, those within one standard error of the
    best cannot be told apart on so few val images (the rule of Breiman et al. 1984): there the
    lower loss decides. The start's loss does not count: a fitted head is better calibrated than a
    network that learns from smoothed labels. Without val, the later epoch.
    """
    if math.isnan(line.val_loss):
        return True
    trained = curve[1:]
    if line.val_accuracy < least:
        return False
    if kept.epoch == 0:
        return True
    best = max(e.val_accuracy for e in trained)
    bar = best - math.sqrt(best * (1 - best) / images)
    if line.val_accuracy < bar:
        return False
    return kept.val_accuracy < bar or line.val_loss < kept.val_loss


def _stale(curve: list[Epoch]) -> int:
    """Epochs since val accuracy or val loss was last better than ever before."""
    last = 0
    for index, line in enumerate(curve[1:], 1):
        before = curve[:index]
        better = line.val_accuracy > max(e.val_accuracy for e in before)
        if better or not line.val_loss >= min(e.val_loss for e in before):
            last = index
    return len(curve) - 1 - last


def _copied(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: t.detach().cpu().clone() for name, t in network.state_dict().items()}
