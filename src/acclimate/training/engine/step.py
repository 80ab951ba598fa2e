"""One update of the weights."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import nn

from acclimate.data.dataset import Rows
from acclimate.models.outputs import auxiliary_of
from acclimate.training.batches.train_batches import TrainBatch
from acclimate.training.engine.batch_norm import explain_single_value_error
from acclimate.training.engine.distributed import add_gradients, average, gathered, summed
from acclimate.training.engine.divergence import Fault
from acclimate.training.engine.fused_batch_norm import Fusion, find_fusion, fused
from acclimate.training.engine.out_of_memory import halved, is_out_of_memory, pieces
from acclimate.training.optim.losses import view_divergence
from acclimate.training.optim.sam import perturb, restore
from acclimate.training.optim.schedules import set_rates
from acclimate.training.plan import TrainPlan


@dataclass(frozen=True)
class LossInputs:
    """What the loss of a batch may depend on besides the logits.

    Attributes:
        inputs: float32, (b, 3, S, S): input of the network; of several views the plain one.
        targets: int64 class ids (b,), or float32 probabilities (b, C).
        rows: int64, (b,): rows of the images in the table.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    rows: Rows


Objective = Callable[[torch.Tensor, LossInputs], torch.Tensor]
"""(logits (b, C), loss inputs) to one loss per image, (b,)."""

ToInput = Callable[[torch.Tensor], torch.Tensor]
"""Images of a batch to the input of the network, on its device."""

Kept = list[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class StepResult:
    """The result of a step.

    Attributes:
        loss: Sum over the images of all processes; 0 if the step was skipped.
        fault: Why the step was skipped; None if it was not.
    """

    loss: float
    fault: Fault | None


class Step:
    """Turns a batch into an update of the weights.

    Args:
        fabric: The processes.
        network: The network, on its device.
        optimizer: The optimizer, set up by Fabric; its groups have `peak` learning rates.
        objective: Loss.
        to_input: Images of a batch to the input of the network.
        plan: Resolved settings.
        info: Logs that memory ran out.

    Attributes:
        micro_batch: Most images per process and pass that fit in memory; 0 if whole batches fit.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        objective: Objective,
        to_input: ToInput,
        plan: TrainPlan,
        info: Callable[[str], None],
    ) -> None:
        self.fabric, self.network, self.optimizer = fabric, network, optimizer
        self.objective, self.to_input, self.plan = objective, to_input, plan
        self.info, self.micro_batch = info, 0
        self._fusion: Fusion | None = None

    def take(self, batch: TrainBatch, rate: float, seed: int) -> StepResult:
        """One update of the weights, which is skipped if the loss or gradient is not finite.

        Args:
            batch: The part of this process.
            rate: Factor on the peak learning rates.
            seed: Random seed of dropout and stochastic depth in this step.

        Returns:
            The loss, and why the step was skipped, if it was; equal in every process.

        Raises:
            RecipeError: Memory is too small for a single image.
        """
        set_rates(self.optimizer, self.plan.schedule, rate)
        before = [(buffer, buffer.clone()) for buffer in _statistics(self.network)]
        loss = self._gradients(batch, seed, before)
        if self.plan.sam != "none" and math.isfinite(loss):
            self._sam_gradients(batch, seed, before)
        fault = self._update(loss, batch)
        if fault is not None:
            _restore_buffers(before)
        else:
            average(self.fabric, [b for b, _ in before if b.is_floating_point()])
        self.optimizer.zero_grad()
        return StepResult(0.0 if fault else loss, fault)

    def _sam_gradients(self, batch: TrainBatch, seed: int, before: Kept) -> None:
        """Replaces the gradients by those of SAM: at the worst weights nearby."""
        weights = (p for group in self.optimizer.param_groups for p in group["params"])
        adaptive = self.plan.sam == "asam"
        were = perturb(weights, self.plan.sam_radius, adaptive=adaptive)
        self.optimizer.zero_grad()
        _restore_buffers(before)
        self._gradients(batch, seed, before)
        restore(were)

    def _update(self, loss: float, batch: TrainBatch) -> Fault | None:
        if not math.isfinite(loss):
            return Fault("loss", loss, self._non_finite_rows(batch))
        length = self._clip_gradients()
        if math.isfinite(length):
            self.optimizer.step()
            return None
        if self.plan.precision == "16-mixed":
            self.optimizer.step()  # the loss scaler skips the update and lowers its scale
        return Fault("the gradient norm", float(length))

    def _clip_gradients(self) -> float:
        """Clips the gradients to the norm of the plan; returns the norm they had.

        Fabric's own clipping refuses fused optimizers under a loss scaler, which PyTorch allows:
        the scaler notes that the gradients are unscaled already.
        """
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        if scaler is not None:
            scaler.unscale_(self.optimizer.optimizer)  # type: ignore[attr-defined]  # Fabric's
        parameters = self.network.parameters()
        return float(nn.utils.clip_grad_norm_(parameters, self.plan.max_gradient_norm))

    def _gradients(self, batch: TrainBatch, seed: int, before: Kept) -> float:
        """Computes the gradients of the whole batch in every process; returns the summed loss."""
        micro_batch = self.micro_batch
        while True:
            _seed_generators(seed, self.fabric.device)
            loss, failed = self._try_backward(batch)
            loss, failed = summed(self.fabric, [loss, failed])
            if not failed:
                break
            self.optimizer.zero_grad()
            _restore_buffers(before)
            if self.fabric.device.type == "cuda":
                torch.cuda.empty_cache()
            self.micro_batch = halved(self.micro_batch, self._largest(batch), 2 if before else 1)
        if self.micro_batch != micro_batch:
            self.info(
                f"out of memory: switching to micro-batches of {self.micro_batch} with gradient "
                "accumulation"
            )
        add_gradients(self.fabric, self.network)
        return loss

    def _try_backward(self, batch: TrainBatch) -> tuple[float, float]:
        """The loss of this process, and 1 if its memory was too small."""
        try:
            return self._backward(batch), 0.0
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the handler, which keeps the tensors of the failed pass alive.
        return 0.0, 1.0

    def _backward(self, batch: TrainBatch) -> float:
        """Adds to the gradients of this process; returns the loss summed over its images."""
        total = 0.0
        for piece in pieces(len(batch.images), self._micro_batches(batch)):
            images = torch.as_tensor(batch.images[piece])
            if batch.consistency is not None:
                images = images.transpose(0, 1).flatten(0, 1)  # (V * b, S, S, 3), plain ones first
            inputs = self.to_input(images)
            targets = torch.as_tensor(batch.targets[piece]).to(self.fabric.device)
            loss_inputs = LossInputs(inputs[: len(targets)], targets, batch.rows[piece])
            fusion = fused(self._fusion_for(inputs))
            with self.fabric.autocast(), explain_single_value_error(), fusion:
                logits = self.network(inputs).float()
            losses = self.objective(logits[: len(targets)], loss_inputs)
            for weight, auxiliary in auxiliary_of(self.network):
                aside = auxiliary.float()[: len(targets)]
                losses = losses + weight * self.objective(aside, loss_inputs)
            if batch.consistency is not None:
                views = logits.unflatten(0, (-1, len(targets)))
                losses = losses + batch.consistency * view_divergence(views)
            losses = losses * batch.weight
            # Divided by the global batch size: summed over micro-batches and processes, this is
            # the gradient that one process with enough memory would compute.
            self.fabric.backward(losses.sum() / batch.global_size)
            total += float(losses.detach().sum())
        return total

    def _fusion_for(self, inputs: torch.Tensor) -> Fusion:
        """Layers to fuse; only on a CPU, where passes over memory take most of the time."""
        if self._fusion is None:
            on_cpu = self.fabric.device.type == "cpu"
            self._fusion = find_fusion(self.network, inputs[:2]) if on_cpu else Fusion()
        return self._fusion

    def _largest(self, batch: TrainBatch) -> int:
        """Number of images of the process that has most of them."""
        processes: int = self.fabric.world_size
        return math.ceil(batch.global_size / processes)

    def _micro_batches(self, batch: TrainBatch) -> int:
        """Number of micro-batches, equal in every process."""
        needed = -(-self._largest(batch) // self.micro_batch) if self.micro_batch else 1
        # A short last batch has fewer: trained batch norm needs two images in each.
        least = 1 if self.plan.freeze_batch_norm else 2
        return max(needed, min(self.plan.accumulation_steps, max(1, self._largest(batch) // least)))

    def _non_finite_rows(self, batch: TrainBatch) -> tuple[int, ...]:
        """Rows of the images with non-finite pixels, over all processes."""
        images = torch.as_tensor(batch.images)
        # An image with non-finite pixels has them in each of its views.
        inputs = self.to_input(images if batch.consistency is None else images[:, 0])
        broken = ~inputs.flatten(1).isfinite().all(1).cpu()
        mine = [int(row) for row, is_broken in zip(batch.rows, broken, strict=True) if is_broken]
        return tuple(gathered(self.fabric, mine if batch.weight else []))


def _statistics(network: nn.Module) -> list[torch.Tensor]:
    """Buffers that a forward pass changes, such as the statistics of batch norm."""
    return [b for m in network.modules() if m.training for b in m.buffers(recurse=False)]


def _seed_generators(seed: int, device: torch.device) -> None:
    """Seeds the global random generators, which dropout and stochastic depth use.

    On a CPU `torch.manual_seed` also prepares the seeds of absent accelerators, and formats three
    stack traces for them: up to 15 ms in every step.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _restore_buffers(before: Kept) -> None:
    for buffer, kept in before:
        buffer.copy_(kept)
