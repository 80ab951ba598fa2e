"""The only training loop. Stages differ by the objective and the plan they hand to it."""

import math
import time
from dataclasses import dataclass, replace

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn import functional

from acclimate.context import Context, derive_seed, process_rank
from acclimate.data.batches import in_order
from acclimate.models.device import on_cpu, on_device
from acclimate.models.runtime import Normalizer
from acclimate.progress import Progress, silent
from acclimate.training.checkpoint import Epoch, TrainState, find_state, save_state
from acclimate.training.feed import Feed
from acclimate.training.optimizers import OPTIMIZERS, OptimizerFactory, parameter_groups
from acclimate.training.plan import TrainPlan
from acclimate.training.processes import launched
from acclimate.training.schedules import factor
from acclimate.training.selection import preferred, stale
from acclimate.training.statistics import measure_anew, quiet_frozen
from acclimate.training.step import Objective, Step, diverged, summed_over
from acclimate.training.views import Views

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


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
    trained = run.to_the_end()
    if plan.reestimate_batch_norm:
        measure_anew(trained.network, run.views, context)
    return trained


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
        self.plan, self.context = plan, context
        self.rank = process_rank()
        self.progress: Progress = context.progress if self.rank == 0 else silent
        self.val = views.dataset.rows("val")
        self.feed = Feed(self.views, plan.batch_size, context.seed)
        self.to_input = Normalizer(views.contract, fabric.device)
        self.rule = rule
        state = find_state(context.workspace)
        if state is not None:
            network.load_state_dict(state.network)
        self.network, self.rule = fabric.setup(network, rule)
        self.step = Step(fabric, self.network, self.rule, objective, self.to_input, plan)
        self.state = state or self._start()
        if state is not None:
            self.rule.load_state_dict(state.optimizer)
            self.progress.say(f"going on after epoch {state.epoch} of {plan.epochs}")
        self.began = time.monotonic() - self.state.curve[-1].seconds

    def to_the_end(self) -> Trained:
        """Epoch by epoch, until the plan or the patience ends."""
        state = self.state
        while state.epoch < self.plan.epochs:
            if stale(state.curve) >= self.plan.patience:
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
            raise diverged("val loss", val_loss, f"the end of epoch {epoch}", self.plan)
        rate = self.rule.param_groups[-1]["lr"]
        line = Epoch(epoch, loss, val_loss, val_accuracy, rate, time.monotonic() - self.began)
        state = self.state
        state.epoch = epoch
        state.curve.append(line)
        least = state.curve[0].val_accuracy if self.keep_start else 0.0
        if preferred(line, state.curve[state.best_epoch], state.curve, len(self.val), least):
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
        quiet_frozen(self.plain)
        if self.plan.freeze_batch_norm:
            for module in self.plain.modules():
                if isinstance(module, _NORMS):
                    module.eval()
        # Dropout and stochastic depth draw from the global generator.
        torch.manual_seed(derive_seed(self.context.seed, "dropout", epoch, self.rank) % 2**63)
        total = 0.0
        steps, rows = self.feed.steps, len(self.feed.rows)
        with self.progress.task(f"epoch {epoch}", rows) as task:
            for step, share in enumerate(self.feed.epoch(epoch), (epoch - 1) * steps):
                rate = factor(self.plan.schedule, step, steps * self.plan.epochs, self.plan.warmup)
                loss = self.step.take(share, rate, f"step {step}")
                total += loss
                task.advance(share.whole)
                task.note(f"loss {loss / share.whole:.3f}")
        return total / rows

    def _validate(self) -> tuple[float, float]:
        """Cross-entropy and accuracy on val; NaN and 0 where there is no val."""
        if not len(self.val):
            return math.nan, 0.0
        self.network.eval()
        sums = torch.zeros(2, dtype=torch.float64)
        mine = self.val[self.rank :: self.fabric.world_size]
        seen = self.views.dataset, mine, self.views.contract
        with torch.inference_mode():
            for batch in in_order(*seen, pictures=self.views.evaluated):
                inputs = self.to_input(torch.from_numpy(batch.images))
                logits = self.network(inputs).float().cpu()
                targets = torch.from_numpy(batch.targets)
                sums[0] += functional.cross_entropy(logits, targets, reduction="sum")
                sums[1] += (logits.argmax(1) == targets).sum()
        total = [summed_over(self.fabric, value) / len(self.val) for value in sums]
        return total[0], total[1]


def _copied(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: t.detach().cpu().clone() for name, t in network.state_dict().items()}
