"""One process or several, on one machine or several, through Lightning Fabric and torchrun."""

import logging
import os

import torch
from lightning_fabric import Fabric

from acclimate.context import process_count
from acclimate.training.plan import TrainPlan


def launched(plan: TrainPlan) -> Fabric:
    """The processes of a training: this one alone, or those that torchrun started.

    Args:
        plan: Device and precision.

    Returns:
        Lightning's Fabric, launched.
    """
    processes = process_count()
    device = torch.device(plan.device)
    if processes == 1:
        devices: list[int] | int = [device.index or 0] if device.type == "cuda" else 1
        fabric = Fabric(accelerator=device.type, devices=devices, precision=plan.precision)
    else:
        # Under torchrun each process takes the device of its local rank, and says so each time.
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        local = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
        fabric = Fabric(
            accelerator=device.type,
            devices=local,
            num_nodes=processes // local,
            strategy="ddp",
            precision=plan.precision,
        )
    fabric.launch()
    return fabric
