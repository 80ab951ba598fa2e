"""Training in several processes on one or more machines, with Lightning Fabric and torchrun."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import nn

from acclimate.context import process_count, process_rank
from acclimate.errors import AcclimateError
from acclimate.training.plan import TrainPlan

Number = TypeVar("Number", int, float)


def launched(plan: TrainPlan) -> Fabric:
    """Launches Fabric for this process alone, or for those that torchrun started.

    Args:
        plan: Device and precision.

    Returns:
        The launched Fabric.
    """
    processes = process_count()
    device = torch.device(plan.device)
    if processes == 1:
        devices: list[int] | int = [device.index or 0] if device.type == "cuda" else 1
        fabric = Fabric(accelerator=device.type, devices=devices, precision=plan.precision)
    else:
        # Under torchrun each process uses the device of its local rank, and would log it each time.
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        local = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
        fabric = Fabric(
            accelerator=device.type,
            num_nodes=processes // local,
            strategy=_strategy(device, local),
            precision=plan.precision,
        )
    fabric.launch()
    return fabric


def _strategy(device: torch.device, local: int) -> DDPStrategy:
    """One device for each process of this machine; GPUs are shared if there are too few of them.

    NCCL refuses two processes on one GPU, so these communicate by gloo.
    """
    if device.type != "cuda":
        return DDPStrategy(parallel_devices=[device] * local)
    gpus = torch.cuda.device_count()
    devices = [torch.device("cuda", index % gpus) for index in range(local)]
    backend = "gloo" if local > gpus else "nccl"
    return DDPStrategy(parallel_devices=devices, process_group_backend=backend)


def broadcast_weights(fabric: Fabric, network: nn.Module) -> None:
    """Copies the weights of the first process to all processes, in place."""
    if fabric.world_size > 1:
        mine = {name: t.cpu() for name, t in network.state_dict().items()}
        network.load_state_dict(fabric.broadcast(mine if fabric.global_rank == 0 else None))


def summed(fabric: Fabric, values: Sequence[float]) -> list[float]:
    """Numbers, each summed over the processes."""
    if fabric.world_size == 1:
        return list(values)
    together = torch.tensor(values, dtype=torch.float32, device=fabric.device)
    return [float(v) for v in fabric.all_reduce(together, reduce_op="sum")]


def add_gradients(fabric: Fabric, network: nn.Module) -> None:
    """Sums the gradients over the processes, in place.

    DistributedDataParallel sums while gradients are still being computed: if the memory of one
    process ran out meanwhile, the others would wait for it forever.
    """
    if fabric.world_size == 1:
        return
    weights = [p for p in network.parameters() if p.requires_grad]
    # A weight that no process used gets no gradient, as in a single process.
    used = torch.tensor([float(p.grad is not None) for p in weights], device=fabric.device)
    grads = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in weights]
    total = fabric.all_reduce(torch.cat([used, *grads]), reduce_op="sum")
    assert isinstance(total, torch.Tensor)
    sizes = [p.numel() for p in weights]
    counts, *parts = torch.split(total, [len(weights), *sizes])
    for weight, count, part in zip(weights, counts, parts, strict=True):
        if count:
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
            weight.grad.copy_(part.view_as(weight))


def average(fabric: Fabric, tensors: Sequence[torch.Tensor]) -> None:
    """Averages floating-point tensors over the processes, in place."""
    if fabric.world_size == 1 or not tensors:
        return
    total = fabric.all_reduce(torch.cat([t.flatten() for t in tensors]), reduce_op="mean")
    assert isinstance(total, torch.Tensor)
    parts = torch.split(total, [t.numel() for t in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


def joined(fabric: Fabric, values: list[Number]) -> list[Number]:
    """The values of all processes, in their order; every process must call this."""
    if fabric.world_size == 1:
        return values
    lists: list[list[Number]] = [[] for _ in range(fabric.world_size)]
    torch.distributed.all_gather_object(lists, values)
    return [value for some in lists for value in some]


def gathered(fabric: Fabric, values: list[int]) -> list[int]:
    """The sorted values of all processes; every process must call this."""
    return values if fabric.world_size == 1 else sorted(joined(fabric, values))


@contextmanager
def report_ended_process() -> Iterator[None]:
    """Explains errors of the network layer that arise because another process ended.

    Raises:
        AcclimateError: Another process ended.
    """
    try:
        yield
    except RuntimeError as error:
        if process_count() == 1 or not _is_network_error(error):
            raise
        raise AcclimateError(
            f"another process of the training ended, so process {process_rank()} ends too.",
            hint="Its message says why. Run the same command to resume at the last checkpoint.",
        ) from error


def _is_network_error(error: RuntimeError) -> bool:
    if isinstance(error, torch.distributed.DistError):
        return True
    text = str(error).lower()
    return "gloo" in text or "connection closed" in text or "connection reset" in text
