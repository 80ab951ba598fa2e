"""One update of the weights."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import nn

from acclimate.data.dataset import Rows
from acclimate.training.batches.train_batches import TrainBatch
from acclimate.training.engine.batch_norm import explain_single_value_error
from acclimate.training.engine.distributed import add_gradients, average, gathered, summed
from acclimate.training.engine.divergence import Fault
from acclimate.training.engine.fused_batch_norm import Fusion, find_fusion, fused
from acclimate.training.engine.out_of_memory import halved, is_out_of_memory, pieces
from acclimate.training.optim.losses import disagreement
from acclimate.training.optim.sam import climb, climb_down
from acclimate.training.optim.schedules import set_rates
from acclimate.training.plan import TrainPlan


@dataclass(frozen=True)
class LossInputs:
    """What the loss of a batch may depend on besides the logits.

    Attributes:
        inputs: float32, (b, 3, S, S): what the network was given; of several views the plain one.
        targets: int64 class ids (b,), or float32 probabilities (b, C).
        rows: int64, (b,): where in the table the images stand.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    rows: Rows


Objective = Callable[[torch.Tensor, LossInputs], torch.Tensor]
"""(logits (b, C), loss inputs) to one loss per image, (b,)."""

ToInput = Callable[[torch.Tensor], torch.Tensor]
"""Images as they are fed to what the network reads, on its device."""

Kept = list[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class StepResult:
    """What came of a step.

    Attributes:
        loss: Summed over the images of all processes; 0 where it was skipped.
        fault: Why it was skipped; None where it was not.
    """

    loss: float
    fault: Fault | None


class Step:
    """What turns a share of a batch into an update.

    Args:
        fabric: The processes.
        network: On its device.
        optimizer: The optimizer, set up by it; its groups hold their `peak` rates.
        objective: What is made small.
        to_input: uint8 images to what the network reads.
        plan: Numbers.
        info: Receives a line when memory was too small.

    Attributes:
        micro_batch: Images of a process that memory holds at once; 0 while it holds all.
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
        """One update, or none where it would spoil the weights.

        Args:
            batch: This process's part of the batch.
            rate: Factor of the peak rates.
            seed: Of dropout and stochastic depth in this step.

        Returns:
            The loss, and why the step was skipped if it was; the same in every process.

        Raises:
            RecipeError: Memory does not hold a single image.
        """
        set_rates(self.optimizer, self.plan.schedule, rate)
        before = [(buffer, buffer.clone()) for buffer in _statistics(self.network)]
        loss = self._gradients(batch, seed, before)
        if self.plan.sam != "none" and math.isfinite(loss):
            self._look_around(batch, seed, before)
        fault = self._update(loss, batch)
        if fault is not None:
            _put_back(before)
        else:
            average(self.fabric, [b for b, _ in before if b.is_floating_point()])
        self.optimizer.zero_grad()
        return StepResult(0.0 if fault else loss, fault)

    def _look_around(self, batch: TrainBatch, seed: int, before: Kept) -> None:
        """Replaces the gradients by those at the worst weights nearby."""
        weights = (p for group in self.optimizer.param_groups for p in group["params"])
        adaptive = self.plan.sam == "asam"
        were = climb(weights, self.plan.sam_radius, adaptive=adaptive)
        self.optimizer.zero_grad()
        _put_back(before)
        self._gradients(batch, seed, before)
        climb_down(were)

    def _update(self, loss: float, batch: TrainBatch) -> Fault | None:
        if not math.isfinite(loss):
            return Fault("loss", loss, self._without_numbers(batch))
        length = self.fabric.clip_gradients(
            self.network,
            self.optimizer,
            max_norm=self.plan.max_gradient_norm,
            error_if_nonfinite=False,
        )
        if length is None or math.isfinite(float(length)):
            self.optimizer.step()
            return None
        if self.plan.precision == "16-mixed":
            self.optimizer.step()  # the loss scaler leaves the weights alone, and lowers its scale
        return Fault("the gradient norm", float(length))

    def _gradients(self, batch: TrainBatch, seed: int, before: Kept) -> float:
        """Gradients of the whole batch in every process; its loss, summed over the images."""
        micro_batch = self.micro_batch
        while True:
            # Dropout and stochastic depth draw from the global generator.
            torch.manual_seed(seed)
            loss, lacking = self._backward_or_lack(batch)
            loss, lacking = summed(self.fabric, [loss, lacking])
            if not lacking:
                break
            self.optimizer.zero_grad()
            _put_back(before)
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

    def _backward_or_lack(self, batch: TrainBatch) -> tuple[float, float]:
        """This process's loss, and 1 where its memory was too small."""
        try:
            return self._backward(batch), 0.0
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the handler, which holds on to all that the failed pass had made.
        return 0.0, 1.0

    def _backward(self, batch: TrainBatch) -> float:
        """Adds to this process's gradients; its loss, summed over its images."""
        total = 0.0
        for piece in pieces(len(batch.images), self._parts(batch)):
            images = torch.as_tensor(batch.images[piece])
            if batch.consistency is not None:
                images = images.transpose(0, 1).flatten(0, 1)  # (V * b, S, S, 3), plain ones first
            inputs = self.to_input(images)
            targets = torch.as_tensor(batch.targets[piece]).to(self.fabric.device)
            loss_inputs = LossInputs(inputs[: len(targets)], targets, batch.rows[piece])
            few_passes = fused(self._fused(inputs))
            with self.fabric.autocast(), explain_single_value_error(), few_passes:
                logits = self.network(inputs).float()
            losses = self.objective(logits[: len(targets)], loss_inputs)
            if batch.consistency is not None:
                views = logits.unflatten(0, (-1, len(targets)))
                losses = losses + batch.consistency * disagreement(views)
            losses = losses * batch.weight
            # Over the whole batch: summed over pieces and processes, this is the very gradient
            # that one process with enough memory would have.
            self.fabric.backward(losses.sum() / batch.global_size)
            total += float(losses.detach().sum())
        return total

    def _fused(self, inputs: torch.Tensor) -> Fusion:
        """What is done in one pass; on a CPU, where passes over memory take most of the time."""
        if self._fusion is None:
            on_cpu = self.fabric.device.type == "cpu"
            self._fusion = find_fusion(self.network, inputs[:2]) if on_cpu else Fusion()
        return self._fusion

    def _largest(self, batch: TrainBatch) -> int:
        """Images of the process that has most of them."""
        processes: int = self.fabric.world_size
        return math.ceil(batch.global_size / processes)

    def _parts(self, batch: TrainBatch) -> int:
        """How many pieces every process cuts its share into."""
        needed = -(-self._largest(batch) // self.micro_batch) if self.micro_batch else 1
        # A short last batch is cut less: where batch norm learns, each piece has two images.
        least = 1 if self.plan.freeze_batch_norm else 2
        return max(needed, min(self.plan.accumulation_steps, max(1, self._largest(batch) // least)))

    def _without_numbers(self, batch: TrainBatch) -> tuple[int, ...]:
        """Rows, of all processes, whose pixels are not all finite."""
        images = torch.as_tensor(batch.images)
        # What is wrong with an image is wrong with all its views.
        inputs = self.to_input(images if batch.consistency is None else images[:, 0])
        broken = ~inputs.flatten(1).isfinite().all(1).cpu()
        mine = [int(row) for row, is_broken in zip(batch.rows, broken, strict=True) if is_broken]
        return tuple(gathered(self.fabric, mine if batch.weight else []))


def _statistics(network: nn.Module) -> list[torch.Tensor]:
    """What a forward pass alone changes: buffers of parts in training mode, such as batch norm."""
    return [b for m in network.modules() if m.training for b in m.buffers(recurse=False)]


def _put_back(before: Kept) -> None:
    for buffer, kept in before:
        buffer.copy_(kept)
