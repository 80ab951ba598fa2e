"""What a killed training needs to go on with the same numbers."""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from acclimate.errors import ModelFileError, reason
from acclimate.files import write_atomic
from acclimate.training.curve import Epoch

_FILE = "checkpoint.pt"
_WAY_OUT = "Give the training another workspace, or move that file away to begin anew."


@dataclass
class Part:
    """What is done of the epoch under way.

    Attributes:
        batches: Done or skipped.
        seen: Images in them.
        loss: Summed over the images that were learnt from.
        learnt: How many those are.
        skipped: Batches that were not learnt from.
        seconds: Since training began, resumed time included.
    """

    batches: int = 0
    seen: int = 0
    loss: float = 0.0
    learnt: int = 0
    skipped: int = 0
    seconds: float = 0.0


@dataclass
class Incidents:
    """What went wrong so far, and was got over.

    Attributes:
        skipped: Steps in the whole training.
        consecutive: Of the last steps, how many were skipped.
        micro_batch: Images of a process that memory held at once; 0 while it held all.
    """

    skipped: int = 0
    consecutive: int = 0
    micro_batch: int = 0


@dataclass
class TrainState:
    """Everything that changes while training.

    Random numbers are not in it: each step derives its own from the seed.

    Attributes:
        epoch: Epochs done.
        curve: One entry an epoch, the start first.
        best_epoch: Where val was best.
        best: Weights at that epoch.
        network: Weights now.
        optimizer: State of the optimizer.
        part: Of the epoch under way.
        incidents: Steps skipped, memory that was too small.
        scaler: Of the loss, where 16-bit floats need one.
        training: What must be the same for the same numbers, name to value.
        start: Weights before the first step.
        average: State of what is averaged beside the training.
    """

    epoch: int
    curve: list[Epoch]
    best_epoch: int
    best: dict[str, torch.Tensor]
    network: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    part: Part = field(default_factory=Part)
    incidents: Incidents = field(default_factory=Incidents)
    scaler: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    start: dict[str, torch.Tensor] = field(default_factory=dict)
    average: dict[str, Any] = field(default_factory=dict)


def save_state(state: TrainState, workspace: Path) -> None:
    """Writes a checkpoint, atomically: a kill while writing leaves the one before."""
    buffer = io.BytesIO()
    record = {
        **state.__dict__,
        "curve": [asdict(e) for e in state.curve],
        "part": asdict(state.part),
        "troubles": asdict(state.incidents),
    }
    torch.save(record, buffer)
    write_atomic(workspace / _FILE, buffer.getvalue())


def find_state(workspace: Path | None) -> TrainState | None:
    """The checkpoint of a training that was killed here, if there is one.

    Args:
        workspace: Of the stage; it belongs to one key, so what is in it fits.

    Returns:
        The state on the CPU, or None.

    Raises:
        ModelFileError: The file is no checkpoint, or a damaged one.
    """
    if workspace is None or not (workspace / _FILE).exists():
        return None
    try:
        record = torch.load(workspace / _FILE, map_location="cpu", weights_only=True)
        curve = [Epoch(**e) for e in record.pop("curve")]
        part, incidents = Part(**record.pop("part")), Incidents(**record.pop("troubles"))
        return TrainState(**record, curve=curve, part=part, incidents=incidents)
    except Exception as error:  # a file of somebody else's may be broken in any way
        raise ModelFileError(
            f"checkpoint cannot be read ({reason(error)}).", where=workspace / _FILE, hint=_WAY_OUT
        ) from error


def check_state(
    state: TrainState, workspace: Path, network: nn.Module, training: Mapping[str, object]
) -> None:
    """Refuses a checkpoint of another network or training, and leaves it as it is.

    Args:
        state: What was found.
        workspace: Where.
        network: That shall go on.
        training: What must be the same for the same numbers, name to value.

    Raises:
        ModelFileError: It does not fit; says in what.
    """
    theirs, ours = (
        {name: tuple(t.shape) for name, t in tensors.items()}
        for tensors in (state.network, network.state_dict())
    )
    odd = [name for name in sorted(theirs | ours) if theirs.get(name) != ours.get(name)]
    fault = None
    if odd:
        there, here = (shapes.get(odd[0], "missing") for shapes in (theirs, ours))
        fault = f"another network: {odd[0]!r} is {there} there and {here} here"
    else:
        for name, value in training.items():
            if state.training.get(name, value) != value:
                there = state.training[name]
                fault = f"another training: {name} was {there!r} there and is {value!r} here"
                break
    if fault is not None:
        raise ModelFileError(f"checkpoint is of {fault}.", where=workspace / _FILE, hint=_WAY_OUT)
