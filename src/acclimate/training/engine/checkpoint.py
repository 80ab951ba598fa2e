"""Checkpoints: what a killed training needs to resume with the same results."""

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
_FORMAT = 2
_HINT = "Choose another workspace, or move the file away to train from the start."


@dataclass
class EpochProgress:
    """What has been done of the current epoch.

    Attributes:
        batches: Number of batches that were trained on or skipped.
        images: Number of images in these batches.
        loss_sum: Sum of the losses over the images that were trained on.
        used_images: Number of images that were trained on.
        skipped: Number of batches that were skipped.
        seconds: Seconds since the training began, those before a resume included.
    """

    batches: int = 0
    images: int = 0
    loss_sum: float = 0.0
    used_images: int = 0
    skipped: int = 0
    seconds: float = 0.0


@dataclass
class Incidents:
    """What has gone wrong without ending the training.

    Attributes:
        skipped: Number of steps skipped in the whole training.
        consecutive: Number of steps skipped in a row just now.
        micro_batch: Most images per process and pass that fit in memory; 0 if whole batches fit.
    """

    skipped: int = 0
    consecutive: int = 0
    micro_batch: int = 0


@dataclass
class TrainState:
    """Everything that changes during training.

    It holds no random state: each step derives its own from the seed.

    Attributes:
        epoch: Number of finished epochs.
        curve: One entry per epoch, the start first.
        best_epoch: Epoch whose weights are kept.
        best: Weights of that epoch.
        network: Current weights.
        optimizer: State of the optimizer.
        epoch_progress: What has been done of the current epoch.
        incidents: Skipped steps, and the micro-batch if memory ran out.
        scaler: State of the loss scaler, which 16-bit floats need.
        fingerprint: What a training must have in common with this one to resume it, by name.
        start: Weights before the first step.
        average: State of the weight averaging.
    """

    epoch: int
    curve: list[Epoch]
    best_epoch: int
    best: dict[str, torch.Tensor]
    network: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    epoch_progress: EpochProgress = field(default_factory=EpochProgress)
    incidents: Incidents = field(default_factory=Incidents)
    scaler: dict[str, Any] = field(default_factory=dict)
    fingerprint: dict[str, Any] = field(default_factory=dict)
    start: dict[str, torch.Tensor] = field(default_factory=dict)
    average: dict[str, Any] = field(default_factory=dict)


def save_state(state: TrainState, workspace: Path) -> None:
    """Writes a checkpoint atomically: if the process is killed, the previous one remains."""
    buffer = io.BytesIO()
    record = {
        **state.__dict__,
        "format": _FORMAT,
        "curve": [asdict(e) for e in state.curve],
        "epoch_progress": asdict(state.epoch_progress),
        "incidents": asdict(state.incidents),
    }
    torch.save(record, buffer)
    write_atomic(workspace / _FILE, buffer.getvalue())


def find_state(workspace: Path | None) -> TrainState | None:
    """The checkpoint of an interrupted training, if there is one.

    Args:
        workspace: Folder of the stage. It belongs to one key, so its checkpoint fits.

    Returns:
        The state, on the CPU, or None.

    Raises:
        ModelFileError: The file is not a checkpoint, is damaged, or has another format.
    """
    if workspace is None or not (workspace / _FILE).exists():
        return None
    try:
        record = torch.load(workspace / _FILE, map_location="cpu", weights_only=True)
        version = record.pop("format", 1)
        state = _state_of(record) if version == _FORMAT else None
    except Exception as error:  # a foreign file may be broken in any way
        raise ModelFileError(
            f"checkpoint cannot be read ({reason(error)}).", where=workspace / _FILE, hint=_HINT
        ) from error
    if state is None:
        raise ModelFileError(
            f"checkpoint has format {version}, and this version of Acclimate reads {_FORMAT}.",
            where=workspace / _FILE,
            hint=_HINT,
        )
    return state


def _state_of(record: dict[str, Any]) -> TrainState:
    curve = [Epoch(**e) for e in record.pop("curve")]
    done = EpochProgress(**record.pop("epoch_progress"))
    incidents = Incidents(**record.pop("incidents"))
    return TrainState(**record, curve=curve, epoch_progress=done, incidents=incidents)


def check_state(
    state: TrainState, workspace: Path, network: nn.Module, fingerprint: Mapping[str, object]
) -> None:
    """Refuses the checkpoint of another network or training, and leaves the file as it is.

    Args:
        state: The checkpoint that was found.
        workspace: Its folder.
        network: The network that is to be trained.
        fingerprint: What must be equal for the same results, by name.

    Raises:
        ModelFileError: They differ; the message names the first difference.
    """
    theirs, ours = (
        {name: tuple(t.shape) for name, t in tensors.items()}
        for tensors in (state.network, network.state_dict())
    )
    different = [name for name in sorted(theirs | ours) if theirs.get(name) != ours.get(name)]
    fault = None
    if different:
        shapes = (tensors.get(different[0], "missing") for tensors in (theirs, ours))
        fault = "another network: {!r} is {} there and {} here".format(different[0], *shapes)
    for name, value in fingerprint.items():
        if fault is None and (before := state.fingerprint.get(name)) != value:
            fault = f"another training: {name} was {before!r} there and is {value!r} here"
    if fault is not None:
        raise ModelFileError(f"checkpoint belongs to {fault}.", where=workspace / _FILE, hint=_HINT)
