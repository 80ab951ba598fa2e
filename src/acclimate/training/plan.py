"""Settings, data and machine to numbers: after this there is no "auto" left."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from acclimate.context import Context, process_count
from acclimate.errors import RecipeError
from acclimate.models.device import choose_device
from acclimate.training.optim.model_soups import COEFFICIENTS
from acclimate.training.settings import Training

_MIN_EPOCHS, _MAX_EPOCHS = 4, 20
_RATES = {"adamw": 5e-4, "sgd": 1e-2, "lion": 1e-4, "muon": 5e-4, "schedule_free": 5e-4}
"""Peak rates at a batch of 32. Lion's steps are all of full size (its authors: a third to a tenth
of AdamW's); Muon's are scaled to AdamW's."""
_DECAY = 0.02
"""For AdamW. What is pulled in a step is rate times decay: the others get the same."""
_WARMUPS = {"one_cycle": 0.3}
_WARMUP = 0.1
_RADII = {"none": 0.0, "sam": 0.05, "asam": 0.5}
"""The papers'."""
UNBOUNDED = 1_000_000
"""Epochs of a training that time ends."""
_BATCH_CPU, _BATCH_GPU = 32, 64


@dataclass(frozen=True)
class TrainPlan:
    """All that the loop needs to know, in numbers.

    Attributes:
        epochs: Passes over the training images; `UNBOUNDED` where time ends the training.
        learning_rate: Peak rate of the head.
        layer_decay: Factor from each block to the one before.
        batch_size: Images a step, over all processes.
        optimizer: A name in `OPTIMIZERS`.
        weight_decay: On matrices.
        schedule: A name in `SCHEDULES`.
        warmup: Part of the steps.
        freeze_batch_norm: Whether statistics stay as they are.
        max_gradient_norm: Bound of the gradient's length.
        patience: Epochs without a better val accuracy before stopping; 0 is half of those that
            fit the time, at least 5.
        precision: As Lightning Fabric names it.
        device: "cpu", "cuda:0", …
        max_minutes: For the training, val included; None where epochs end it.
        accumulation_steps: Parts in which a batch is worked off.
        sam: "none", "sam" or "asam".
        sam_radius: Of the ball in which they look.
        find_rate: Whether a range test is still to say what `learning_rate` is.
        reasons: Why each number that was "auto" is what it is.
        averaging: A name in `AVERAGES`.
        coefficients: Of WiSE-FT, to try; empty without it.
        balanced: Whether each class has the same share of an epoch.
        reestimate_batch_norm: Whether statistics are measured anew after training.
        augment_on_device: Whether images are altered in batches on the device.
    """

    epochs: int
    learning_rate: float
    layer_decay: float
    batch_size: int
    optimizer: str
    weight_decay: float
    schedule: str
    warmup: float
    freeze_batch_norm: bool
    max_gradient_norm: float
    patience: int
    precision: str
    device: str
    max_minutes: float | None = None
    accumulation_steps: int = 1
    sam: str = "none"
    sam_radius: float = 0.0
    find_rate: bool = False
    reasons: Mapping[str, str] = field(default_factory=dict)
    averaging: str = "none"
    coefficients: tuple[float, ...] = ()
    balanced: bool = False
    reestimate_batch_norm: bool = False
    augment_on_device: bool = False

    def as_record(self) -> dict[str, Any]:
        """The plan as JSON."""
        return asdict(self)


def make_plan(settings: Training, images: int, context: Context) -> TrainPlan:
    """Resolves every "auto".

    Args:
        settings: Of a stage that trains.
        images: In the training split.
        context: The run.

    Returns:
        The plan, with a reason for each number that was chosen here.

    Raises:
        RecipeError: The settings do not fit the data or the machine.
    """
    device = choose_device(context.device)
    reasons: dict[str, str] = {}
    batch_size = _batch_size(settings, images, device, reasons)
    epochs = _epochs(settings, images, batch_size, reasons)
    schedule = _schedule(settings, reasons)
    return TrainPlan(
        epochs=epochs,
        learning_rate=_learning_rate(settings, batch_size, reasons),
        layer_decay=settings.layer_decay,
        batch_size=batch_size,
        optimizer=settings.optimizer,
        weight_decay=_weight_decay(settings, reasons),
        schedule=schedule,
        warmup=_warmup(settings, schedule, reasons),
        freeze_batch_norm=settings.batch_norm != "train",
        max_gradient_norm=settings.max_gradient_norm,
        patience=_patience(settings, epochs, reasons),
        precision=_precision(settings, device, reasons),
        device=str(device),
        max_minutes=settings.max_minutes,
        accumulation_steps=_accumulation_steps(settings, batch_size),
        sam=settings.sam,
        sam_radius=_radius(settings, reasons),
        find_rate=settings.learning_rate == "find",
        reasons=reasons,
        averaging=_averaging(settings),
        coefficients=_coefficients(settings, reasons),
        balanced=getattr(settings, "balance", "none") == "sampling",
        reestimate_batch_norm=settings.batch_norm == "reestimate",
        augment_on_device=_augment_on_device(settings, device, reasons),
    )


def _batch_size(
    settings: Training, images: int, device: torch.device, reasons: dict[str, str]
) -> int:
    processes = process_count()
    if settings.batch_size == "auto":
        usual = (_BATCH_GPU if device.type == "cuda" else _BATCH_CPU) * processes
        reasons["batch_size"] = f"{usual} on {device.type}, at most an eighth of {images:,} images"
        least = processes * (2 if settings.batch_norm == "train" else 1)
        return max(least, min(usual, images // 8 or 1))
    if settings.batch_size < processes:
        raise RecipeError(
            f"batch_size {settings.batch_size} is smaller than the {processes} processes.",
            where="batch_size",
        )
    if settings.batch_size > images:
        raise RecipeError(
            f"batch_size {settings.batch_size} is larger than the training split "
            f"({images:,} images).",
            where="batch_size",
            hint="Lower it, or leave it at auto.",
        )
    return settings.batch_size


def _epochs(settings: Training, images: int, batch_size: int, reasons: dict[str, str]) -> int:
    if settings.epochs != "auto":
        return settings.epochs
    if settings.max_minutes is not None:
        reasons["epochs"] = f"as many as fit {settings.max_minutes:g} minutes"
        return UNBOUNDED
    reasons["epochs"] = (
        f"about {settings.AUTO_STEPS} steps of {batch_size} over {images:,} images, "
        f"from {_MIN_EPOCHS} to {_MAX_EPOCHS} epochs"
    )
    return min(_MAX_EPOCHS, max(_MIN_EPOCHS, round(settings.AUTO_STEPS * batch_size / images)))


def _learning_rate(settings: Training, batch_size: int, reasons: dict[str, str]) -> float:
    if not isinstance(settings.learning_rate, str):
        return settings.learning_rate
    usual = _RATES[settings.optimizer]
    reasons["learning_rate"] = (
        f"{usual:g} for {settings.optimizer} at batch {_BATCH_CPU}, by the square root of the batch"
    )
    return usual * math.sqrt(batch_size / _BATCH_CPU)


def _weight_decay(settings: Training, reasons: dict[str, str]) -> float:
    if settings.weight_decay != "auto":
        return settings.weight_decay
    decay = _DECAY * _RATES["adamw"] / _RATES[settings.optimizer]
    reasons["weight_decay"] = f"{decay:g} for {settings.optimizer}: each step pulls as AdamW's does"
    return decay


def _schedule(settings: Training, reasons: dict[str, str]) -> str:
    averaging = settings.optimizer == "schedule_free"
    if settings.schedule == "auto":
        schedule = "constant" if averaging else "cosine"
        reasons["schedule"] = f"{schedule} for {settings.optimizer}"
        return schedule
    if averaging and settings.schedule != "constant":
        raise RecipeError(
            f"schedule {settings.schedule} does not go with optimizer schedule_free, which "
            "averages in place of a falling rate.",
            where="schedule",
            hint="Leave it at auto, or choose another optimizer.",
        )
    return settings.schedule


def _warmup(settings: Training, schedule: str, reasons: dict[str, str]) -> float:
    if settings.warmup != "auto":
        return settings.warmup
    warmup = _WARMUPS.get(schedule, _WARMUP)
    reasons["warmup"] = f"{warmup:g} of the training for {schedule}"
    return warmup


def _accumulation_steps(settings: Training, batch_size: int) -> int:
    if settings.accumulation_steps > batch_size:
        raise RecipeError(
            f"accumulation_steps {settings.accumulation_steps} is larger than the batch size "
            f"({batch_size}).",
            where="accumulation_steps",
            hint="Lower it, or raise batch_size.",
        )
    if (
        settings.batch_norm == "train"
        and batch_size // process_count() // settings.accumulation_steps < 2
    ):
        parts = (
            f" in {settings.accumulation_steps} parts" if settings.accumulation_steps > 1 else ""
        )
        raise RecipeError(
            f"batch_norm: train needs two images at a time, and a batch of {batch_size}{parts} "
            "leaves one: alone it has no statistics.",
            where="batch_norm",
            hint="Raise batch_size, lower accumulation_steps, or leave batch_norm at frozen.",
        )
    return settings.accumulation_steps


def _radius(settings: Training, reasons: dict[str, str]) -> float:
    if settings.sam == "none":
        return 0.0
    if settings.sam_radius != "auto":
        return settings.sam_radius
    radius = _RADII[settings.sam]
    reasons["sam_radius"] = f"{radius:g} for {settings.sam}"
    return radius


def _patience(settings: Training, epochs: int, reasons: dict[str, str]) -> int:
    if settings.patience != "auto":
        return settings.patience
    # The rate falls to zero at the planned end: stopping early gives away the best part.
    reasons["patience"] = "half of the epochs, at least 5"
    return 0 if settings.max_minutes is not None else max(5, math.ceil(epochs / 2))


def _precision(settings: Training, device: torch.device, reasons: dict[str, str]) -> str:
    if settings.precision != "auto":
        return settings.precision
    reasons["precision"] = f"what pays on {device.type}"
    if device.type != "cuda":
        return "32-true"
    # bfloat16 needs no loss scaling; GPUs before Ampere only emulate it.
    capable = torch.cuda.get_device_capability(device) >= (8, 0)
    return "bf16-mixed" if capable else "16-mixed"


def _augment_on_device(settings: Training, device: torch.device, reasons: dict[str, str]) -> bool:
    if settings.augment_on != "auto":
        return settings.augment_on == "device"
    if device.type != "cuda":
        return False
    reasons["augment_on"] = "the device, since it is a GPU"
    return True


def _averaging(settings: Training) -> str:
    if settings.averaging in ("swa", "soup") and settings.batch_norm == "train":
        raise RecipeError(
            f"averaging: {settings.averaging} does not go with batch_norm: train; the mean "
            "of weights has other statistics than the mean of statistics.",
            where="averaging",
            hint="Take averaging: ema, or leave batch_norm at frozen.",
        )
    return settings.averaging


def _coefficients(settings: Training, reasons: dict[str, str]) -> tuple[float, ...]:
    wanted = getattr(settings, "wise_ft", "off")
    if wanted == "off":
        return ()
    if settings.batch_norm == "train":
        if wanted == "auto":
            reasons["wise_ft"] = "off, since batch_norm is trained: its statistics do not mix"
            return ()
        raise RecipeError(
            "wise_ft does not go with batch_norm: train; statistics of two networks do not mix.",
            where="wise_ft",
            hint="Leave batch_norm at frozen, or wise_ft at off.",
        )
    return COEFFICIENTS if wanted == "auto" else (0.0, float(wanted))
