"""The training loop of all stages, which differ in the objective and the plan they pass to it."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn import functional

from acclimate.context import Context, derive_seed, process_rank
from acclimate.errors import count
from acclimate.models.device import on_cpu, on_device
from acclimate.progress import Progress, Task, silent
from acclimate.training.batches.train_batches import BatchSource, ImageBatches
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.curve import Epoch
from acclimate.training.engine.allocator import keep_freed_memory
from acclimate.training.engine.batch_norm import reestimate_batch_norm, set_mode
from acclimate.training.engine.checkpoint import (
    EpochProgress,
    TrainState,
    check_state,
    find_state,
)
from acclimate.training.engine.checkpointing import Checkpointer
from acclimate.training.engine.distributed import (
    broadcast_weights,
    launched,
    report_ended_process,
    summed,
)
from acclimate.training.engine.divergence import check_divergence, diverged, start_kept_notes
from acclimate.training.engine.early_stopping import preferred, stale
from acclimate.training.engine.result import TrainResult as TrainResult
from acclimate.training.engine.resume import resume_fingerprint
from acclimate.training.engine.step import Objective, Step, StepResult
from acclimate.training.engine.time_budget import TimeBudget
from acclimate.training.optim.model_soups import Blend, ValMetrics, check_val, greedy_soup, wise_ft
from acclimate.training.optim.optimizers import (
    OPTIMIZERS,
    OptimizerFactory,
    eval_mode,
    parameter_groups,
    train_mode,
)
from acclimate.training.optim.weight_averaging import Averager, Weights, copied
from acclimate.training.plan import TrainPlan

EpochCallback = Callable[[Epoch], bool]
"""Called with the figures of each epoch; False ends the training with the best weights so far."""


def train(
    network: nn.Module,
    data: TrainingImages | BatchSource,
    objective: Objective,
    plan: TrainPlan,
    *,
    context: Context,
    optimizer: OptimizerFactory | None = None,
    keep_start: bool = True,
    epoch_callback: EpochCallback | None = None,
    fingerprint: Mapping[str, object] | None = None,
) -> TrainResult:
    """Trains a network and keeps the weights of the best epoch on val, the start included.

    See `early_stopping.preferred` for which epoch is the best.

    A killed training resumes at the next batch, with the same results as an uninterrupted one. No
    random state is stored: the order of the images and their augmentation are derived from the
    seed, the epoch and the row, whatever the number of processes or threads; dropout is derived
    from the seed and the step.

    A step with a non-finite loss or gradient is skipped. Three such steps in a row, or more than a
    tenth of an epoch, end the training.

    Args:
        network: Changed in place.
        data: The images, or a source of batches.
        objective: Loss.
        plan: Resolved settings.
        context: Seed, workspace, progress.
        optimizer: Makes the optimizer; None uses the one that the plan names.
        keep_start: Whether to return the start if no epoch is as accurate on val.
        epoch_callback: Called after each epoch; returns whether to continue.
        fingerprint: What the results depend on besides the plan and the images, by name: a
            checkpoint that differs in one of these values is refused.

    Returns:
        The trained network and its curve.

    Raises:
        RecipeError: The training diverges, or memory is too small for one image.
        DataError: Images have non-finite pixels.
        ModelFileError: The workspace holds a checkpoint of another training.
        AcclimateError: Another process of this training ended.
    """
    fabric = launched(plan)
    groups = parameter_groups(
        network,
        learning_rate=plan.learning_rate,
        layer_decay=plan.layer_decay,
        weight_decay=plan.weight_decay,
    )
    network = on_device(network, fabric.device)
    built = (optimizer or OPTIMIZERS[plan.optimizer].create)(groups)
    if isinstance(data, TrainingImages):
        data = data if data.context else replace(data, context=context)
        on = fabric.device if plan.augment_on_device else None
        source: BatchSource = ImageBatches(
            data, plan.batch_size, context.seed, balanced=plan.balanced, on=on
        )
    else:
        source = data
    with report_ended_process(), keep_freed_memory():
        known = fabric, network, built, source, objective, plan, context, keep_start, epoch_callback
        run = _Run(*known, fingerprint or {})
        result = run.train()
    if plan.reestimate_batch_norm and source.data is not None:
        reestimate_batch_norm(result.network, source.data, context)
    return result


class _Run:
    """A running training."""

    def __init__(
        self,
        fabric: Fabric,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        source: BatchSource,
        objective: Objective,
        plan: TrainPlan,
        context: Context,
        keep_start: bool,
        epoch_callback: EpochCallback | None,
        fingerprint: Mapping[str, object],
    ) -> None:
        self.fabric, self.network, self.source = fabric, network, source
        self.plan, self.context, self.keep_start = plan, context, keep_start
        self.epoch_callback, self.ended = epoch_callback, False
        self.rank = process_rank()
        self.progress: Progress = context.progress if self.rank == 0 else silent
        self.to_input = source.to_input(fabric.device)
        self.forward_module = source.forward_module(network)
        given = {"keep_start": keep_start, "images": source.images, **fingerprint}
        data = source.digest if context.workspace else ""
        self.fingerprint = resume_fingerprint(plan, optimizer, context.seed, data, given)
        check_val(plan.averaging, source.val_images)
        self.average = Averager(plan.averaging)
        self.checkpointer = Checkpointer(context.workspace, leads=self.rank == 0)
        # Only the first process has checkpoints: the others may run on other machines.
        state = self._find_checkpoint() if self.rank == 0 else None
        if fabric.world_size > 1:
            state = fabric.broadcast(state)
        if state is not None:
            network.load_state_dict(state.network)
        broadcast_weights(fabric, network)
        self.optimizer = fabric.setup_optimizers(optimizer)
        self.step = Step(
            fabric,
            self.forward_module,
            self.optimizer,
            objective,
            self.to_input,
            plan,
            self.progress.info,
        )
        spent = max(state.curve[-1].seconds, state.epoch_progress.seconds) if state else 0.0
        self.budget = TimeBudget(plan, source.steps, fabric, spent)
        self.state = state or self._start()
        if state is not None:
            self._resume(state)

    def _find_checkpoint(self) -> TrainState | None:
        state = find_state(self.context.workspace)
        if state is not None and self.context.workspace is not None:
            check_state(state, self.context.workspace, self.network, self.fingerprint)
        return state

    def _resume(self, state: TrainState) -> None:
        """Restores everything except the weights, which are restored already."""
        self.optimizer.load_state_dict(state.optimizer)
        self.average.load_state_dict(state.average, self.fabric.device)
        self.fabric.strategy.precision.load_state_dict(state.scaler)
        self.step.micro_batch = state.incidents.micro_batch
        done, steps = state.epoch_progress.batches, self.source.steps
        if state.epoch >= self.plan.epochs:
            place = f"after {self.budget.describe(state.epoch, ' of ')}"
        else:
            at = f"at batch {done + 1} of {steps}" if done < steps else "at the validation"
            place = f"in {self.budget.describe(state.epoch + 1, ' of ')} {at}"
        self.progress.info(f"resuming {place}")

    def train(self) -> TrainResult:
        """Trains epoch by epoch until the plan, the time or the patience ends."""
        state = self.state
        with self.checkpointer:
            while state.epoch < self.plan.epochs and not (self.ended or self.budget.over()):
                patience = self.budget.patience(state.epoch)
                if stale(state.curve) >= patience:
                    self.progress.info(
                        f"early stopping: no improvement on val for {count(patience, 'epoch')}"
                    )
                    break
                self._epoch(state.epoch + 1)
        blend = self._blended()
        self.network.load_state_dict(blend.weights if blend else state.best)
        network, curve = on_cpu(self.network), tuple(state.curve)
        result = TrainResult(network, curve, state.best_epoch, state.incidents, blend)
        for note in start_kept_notes(curve, self.plan.learning_rate, kept=result.is_start):
            self.progress.info(note)
        return result

    def _blended(self) -> Blend | None:
        """The model soup and the WiSE-FT interpolation, if the plan has them."""
        state, blend = self.state, None
        if self.average.ingredients:
            blend = greedy_soup(self.average.ingredients, state.curve, self._validate_weights)
        if self.plan.coefficients:
            end = blend.weights if blend else state.best
            images = self.source.val_images
            wise = wise_ft(state.start, end, self.plan.coefficients, images, self._validate_weights)
            blend = replace(wise, epochs=blend.epochs if blend else ())
        if blend is not None:
            for note in blend.notes:
                self.progress.info(note)
        return blend

    def _validate_weights(self, weights: Weights) -> ValMetrics:
        self.network.load_state_dict(weights)
        return self._validate()

    def _start(self) -> TrainState:
        val = self._validate()
        start = Epoch(0, math.nan, val.loss, val.accuracy, 0.0, 0.0, val.loss_error)
        if self.source.val_images:
            self.progress.info(f"start: {_val_figures(start)}")
        weights = copied(self.network)
        if self.keep_start:
            self.average.after_epoch(start, [start], self.network)
        return TrainState(
            0, [start], 0, weights, weights, self.optimizer.state_dict(), start=weights
        )

    def _epoch(self, epoch: int) -> None:
        train_mode(self.optimizer)
        loss = self._train_epoch(epoch)
        if self.checkpointer.due:
            self._save()
            self.checkpointer.raise_pending_signal()
        eval_mode(self.optimizer)
        with self.average.shown(self.network):
            self._end_epoch(epoch, loss)
        if self.epoch_callback is not None:
            self.ended = not self.epoch_callback(self.state.curve[-1])
        if self.context.workspace is not None and self.rank == 0:
            self._save()
        self.checkpointer.raise_pending_signal()

    def _end_epoch(self, epoch: int, loss: float) -> None:
        """Validates, and keeps the weights if they are the best so far."""
        val = self._validate()
        if self.source.val_images and not math.isfinite(val.loss):
            raise diverged("val loss", val.loss, f"the end of epoch {epoch}", self.plan)
        rate, spent = self.optimizer.param_groups[-1]["lr"], self.budget.seconds
        line = Epoch(epoch, loss, val.loss, val.accuracy, rate, spent, val.loss_error)
        state = self.state
        state.epoch, state.epoch_progress = epoch, EpochProgress()
        state.curve.append(line)
        # WiSE-FT itself chooses between the start and the trained network.
        floor = self.keep_start and not self.plan.coefficients
        least = state.curve[0].val_accuracy if floor else 0.0
        kept = state.curve[state.best_epoch]
        if preferred(line, kept, state.curve, self.source.val_images, least):
            state.best_epoch, state.best = epoch, copied(self.network)
        self.average.after_epoch(line, state.curve, self.network)
        figures = f", {_val_figures(line)}" if self.source.val_images else ""
        end = " (kept)" if state.best_epoch == epoch else ""
        self.progress.info(f"{self.budget.describe(epoch)}: train loss {loss:.3f}{figures}{end}")

    def _save(self) -> None:
        """Saves everything that the next batch depends on."""
        state = self.state
        state.network, state.optimizer = copied(self.network), self.optimizer.state_dict()
        state.average = self.average.state_dict()
        state.scaler = self.fabric.strategy.precision.state_dict()
        state.fingerprint = self.fingerprint
        state.epoch_progress.seconds = self.budget.seconds
        self.checkpointer.save(state)

    def _train_epoch(self, epoch: int) -> float:
        """Trains on the remaining batches of an epoch; returns the mean loss of the whole epoch."""
        set_mode(self.network, freeze_batch_norm=self.plan.freeze_batch_norm)
        done, steps = self.state.epoch_progress, self.source.steps
        with self.progress.task(f"epoch {epoch}", self.source.images) as task:
            if done.images:
                task.advance(done.images)
            for batch in self.source.train_batches(epoch, done.batches):
                step = (epoch - 1) * steps + done.batches
                rate = self.budget.factor(step)
                seed = derive_seed(self.context.seed, "dropout", step, self.rank)
                result = self.step.take(batch, rate, seed)
                if result.fault is None:
                    self.average.after_step(self.network, self.budget.done(step))
                self._count(result, batch.global_size, step, task)
                if self.checkpointer.due:
                    self._save()
                    self.checkpointer.raise_pending_signal()
                if self.budget.over():
                    break
        return done.loss_sum / done.used_images if done.used_images else math.nan

    def _count(self, result: StepResult, images: int, step: int, task: Task) -> None:
        """Counts the result of a step, and ends the training if too many steps were skipped."""
        done, incidents = self.state.epoch_progress, self.state.incidents
        done.batches += 1
        done.images += images
        incidents.micro_batch = self.step.micro_batch
        task.advance(images)
        if result.fault is None:
            done.loss_sum += result.loss
            done.used_images += images
            incidents.consecutive = 0
            task.note(f"loss {result.loss / images:.3f}")
            return
        done.skipped += 1
        incidents.skipped, incidents.consecutive = incidents.skipped + 1, incidents.consecutive + 1
        when, steps = f"step {step}", self.source.steps
        check_divergence(result.fault, done, incidents, self.plan, steps=steps, when=when)
        self.progress.info(f"{when} skipped: {result.fault}")

    def _validate(self) -> ValMetrics:
        """Cross-entropy and accuracy on val; NaN and 0 without val."""
        images = self.source.val_images
        if not images:
            return ValMetrics(math.nan, 0.0)
        began = time.monotonic()
        self.network.eval()
        sums = torch.zeros(3, dtype=torch.float64)
        with torch.inference_mode():
            for batch in self.source.val_batches():
                inputs = self.to_input(torch.as_tensor(batch.images))
                with self.fabric.autocast():
                    logits = self.forward_module(inputs)
                logits, targets = logits.float().cpu(), torch.as_tensor(batch.targets)
                losses = functional.cross_entropy(logits, targets, reduction="none").double()
                right = (logits.argmax(1) == targets).sum()
                sums += torch.stack([losses.sum(), losses.square().sum(), right])
        loss, squares, right = (s / images for s in summed(self.fabric, sums.tolist()))
        self.budget.note_validation(time.monotonic() - began)
        return ValMetrics(loss, right, math.sqrt(max(squares - loss**2, 0.0) / images))


def _val_figures(line: Epoch) -> str:
    return f"val loss {line.val_loss:.3f}, val accuracy {line.val_accuracy:.3f}"
