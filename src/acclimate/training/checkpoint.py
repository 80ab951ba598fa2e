"""What a killed training needs to go on with the same numbers."""

import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from acclimate.files import write_atomic

_FILE = "checkpoint.pt"


@dataclass(frozen=True)
class Epoch:
    """One line of the training curve.

    Attributes:
        epoch: 0 is the start, before any step.
        train_loss: Mean over the images seen; NaN at the start.
        val_loss: Cross-entropy on val.
        val_accuracy: In [0, 1].
        learning_rate: Of the head, at the end.
        seconds: Since training began, resumed time included.
    """

    epoch: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    seconds: float


@dataclass
class TrainState:
    """Everything that changes while training.

    Random numbers are not in it: each epoch derives its own from the seed.

    Attributes:
        epoch: Epochs done.
        curve: One entry an epoch, the start first.
        best_epoch: Where val was best.
        best: Weights at that epoch.
        network: Weights now.
        optimizer: Its rule's state.
        start: Weights before the first step.
        average: State of what is averaged beside the training.
    """

    epoch: int
    curve: list[Epoch]
    best_epoch: int
    best: dict[str, torch.Tensor]
    network: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    start: dict[str, torch.Tensor] = field(default_factory=dict)
    average: dict[str, Any] = field(default_factory=dict)


def save_state(state: TrainState, workspace: Path) -> None:
    """Writes a checkpoint, atomically: a kill while writing leaves the one before."""
    buffer = io.BytesIO()
    torch.save({**state.__dict__, "curve": [asdict(e) for e in state.curve]}, buffer)
    write_atomic(workspace / _FILE, buffer.getvalue())


def find_state(workspace: Path | None) -> TrainState | None:
    """The checkpoint of a training that was killed here, if there is one.

    Args:
        workspace: Of the stage; it belongs to one key, so what is in it fits.

    Returns:
        The state on the CPU, or None.
    """
    if workspace is None or not (workspace / _FILE).exists():
        return None
    record = torch.load(workspace / _FILE, map_location="cpu", weights_only=True)
    return TrainState(**{**record, "curve": [Epoch(**e) for e in record["curve"]]})
