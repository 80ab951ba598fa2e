"""Resolves the settings for the data and the machine: no "auto" is left in a plan."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from acclimate.context import Context, process_count
from acclimate.errors import RecipeError
from acclimate.models.device import choose_device
from acclimate.training.optim.model_soups import COEFFICIENTS
from acclimate.training.optim.optimizers import OPTIMIZERS
from acclimate.training.settings import Training

_MIN_EPOCHS, _MAX_EPOCHS = 4, 20
_DECAY = 0.02
"""For AdamW. A step shrinks weights by rate times decay; other optimizers get the same product."""
_WARMUPS = {"one_cycle": 0.3}
_WARMUP = 0.1
_RADII = {"none": 0.0, "sam": 0.05, "asam": 0.5}
"""The values of the papers."""
UNBOUNDED = 1_000_000
"""Number of epochs of a training that ends by time."""
_BATCH_CPU, _BATCH_GPU = 32, 64
_PRECISIONS = {
    "32-true": "float32",
    "16-mixed": "mixed float16",
    "bf16-mixed": "mixed bfloat16",
}


@dataclass(frozen=True)
class TrainPlan:
    """Everything the training loop needs, in numbers.

    Attributes:
        epochs: Passes over the training images; `UNBOUNDED` if the training ends by time.
        learning_rate: Peak learning rate of the head.
        layer_decay: Learning rate of a block as a fraction of the next block's.
        batch_size: Batch size over all processes.
        optimizer: A name in `OPTIMIZERS`.
        weight_decay: Weight decay of matrices.
        schedule: A name in `SCHEDULES`.
        warmup: Fraction of the steps.
        freeze_batch_norm: Whether the running statistics stay as they are.
        max_gradient_norm: Norm to which gradients are clipped.
        patience: Epochs without improvement on val before training stops; 0 is half of the epochs
            that fit the time, at least 5.
        precision: A name of Lightning Fabric.
        device: "cpu", "cuda:0", …
        max_minutes: Time limit, validation included; None if the training ends by epochs.
        accumulation_steps: Gradient accumulation steps per batch.
        sam: "none", "sam" or "asam".
        sam_radius: Radius of the neighborhood in SAM.
        find_rate: Whether a range test is still to set `learning_rate`.
        reasons: Why each setting that was "auto" has its value.
        averaging: A name in `AVERAGES`.
        coefficients: WiSE-FT coefficients to try; empty without WiSE-FT.
        balanced: Whether each epoch has equally many images of each class.
        reestimate_batch_norm: Whether batch-norm statistics are computed again after training.
        augment_on_device: Whether images are augmented in batches on the device.
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
        """The plan as a JSON object."""
        return asdict(self)


def make_plan(settings: Training, images: int, context: Context) -> TrainPlan:
    """Resolves every "auto".

    Args:
        settings: Settings of a training stage.
        images: Number of training images.
        context: Device.

    Returns:
        The plan, with a reason for each value that was chosen here.

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
        reasons["batch_size"] = (
            f"default for {_named(device)} is {usual}, at most an eighth of {images:,} images"
        )
        least = processes * (2 if settings.batch_norm == "train" else 1)
        return max(least, min(usual, images // 8 or 1))
    if settings.batch_size < processes:
        raise RecipeError(
            f"batch_size {settings.batch_size} is smaller than the number of processes "
            f"({processes}).",
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
        reasons["epochs"] = f"as many as fit in {settings.max_minutes:g} minutes"
        return UNBOUNDED
    reasons["epochs"] = (
        f"about {settings.AUTO_STEPS} steps at batch size {batch_size} for {images:,} images, "
        f"between {_MIN_EPOCHS} and {_MAX_EPOCHS} epochs"
    )
    return min(_MAX_EPOCHS, max(_MIN_EPOCHS, round(settings.AUTO_STEPS * batch_size / images)))


def _learning_rate(settings: Training, batch_size: int, reasons: dict[str, str]) -> float:
    if not isinstance(settings.learning_rate, str):
        return settings.learning_rate
    usual = OPTIMIZERS[settings.optimizer].learning_rate
    rate = usual * math.sqrt(batch_size / _BATCH_CPU)
    reasons["learning_rate"] = f"{usual:g} x sqrt({batch_size}/{_BATCH_CPU}) = {rate:.2g}"
    return rate


def _weight_decay(settings: Training, reasons: dict[str, str]) -> float:
    if settings.weight_decay != "auto":
        return settings.weight_decay
    optimizer = OPTIMIZERS[settings.optimizer]
    decay = _DECAY * OPTIMIZERS["adamw"].learning_rate / optimizer.learning_rate
    reasons["weight_decay"] = f"{decay:g} (default for {optimizer.title})"
    return decay


def _schedule(settings: Training, reasons: dict[str, str]) -> str:
    averaging = settings.optimizer == "schedule_free"
    if settings.schedule == "auto":
        schedule = "constant" if averaging else "cosine"
        reasons["schedule"] = f"{schedule} (default for {OPTIMIZERS[settings.optimizer].title})"
        return schedule
    if averaging and settings.schedule != "constant":
        raise RecipeError(
            f"schedule {settings.schedule} cannot be used with optimizer schedule_free, which "
            "averages weights at a constant learning rate.",
            where="schedule",
            hint="Leave it at auto, or choose another optimizer.",
        )
    return settings.schedule


def _warmup(settings: Training, schedule: str, reasons: dict[str, str]) -> float:
    if settings.warmup != "auto":
        return settings.warmup
    warmup = _WARMUPS.get(schedule, _WARMUP)
    reasons["warmup"] = f"{warmup:g} of the steps (default for {schedule})"
    return warmup


def _accumulation_steps(settings: Training, batch_size: int) -> int:
    if settings.accumulation_steps > batch_size:
        raise RecipeError(
            f"accumulation_steps {settings.accumulation_steps} is larger than the batch size "
            f"({batch_size}).",
            where="accumulation_steps",
            hint="Lower it, or raise batch_size.",
        )
    steps = settings.accumulation_steps
    if settings.batch_norm == "train" and batch_size // process_count() // steps < 2:
        parts = f" in {steps} accumulation steps" if steps > 1 else ""
        raise RecipeError(
            "batch_norm: train needs at least two images per forward pass, and a batch of "
            f"{batch_size}{parts} leaves one.",
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
    reasons["sam_radius"] = f"{radius:g} (default for {settings.sam.upper()})"
    return radius


def _patience(settings: Training, epochs: int, reasons: dict[str, str]) -> int:
    if settings.patience != "auto":
        return settings.patience
    # The learning rate falls to zero at the planned end: the last epochs are the best ones.
    reasons["patience"] = "half of the epochs, at least 5"
    return 0 if settings.max_minutes is not None else max(5, math.ceil(epochs / 2))


def _precision(settings: Training, device: torch.device, reasons: dict[str, str]) -> str:
    if settings.precision == "16-mixed" and device.type == "cpu":
        raise RecipeError(
            "precision 16-mixed needs a GPU.",
            where="precision",
            hint="Leave it at auto, or use bf16-mixed or 32-true.",
        )
    if settings.precision != "auto":
        return settings.precision
    precision = "32-true"
    if device.type == "cuda":
        # bfloat16 needs no loss scaling; GPUs before Ampere only emulate it.
        capable = torch.cuda.get_device_capability(device) >= (8, 0)
        precision = "bf16-mixed" if capable else "16-mixed"
    reasons["precision"] = f"{_PRECISIONS[precision]} on {_named(device)}"
    return precision


def _named(device: torch.device) -> str:
    return {"cpu": "CPU", "cuda": "GPU"}.get(device.type, device.type)


def _augment_on_device(settings: Training, device: torch.device, reasons: dict[str, str]) -> bool:
    if settings.augment_on != "auto":
        return settings.augment_on == "device"
    if device.type != "cuda":
        return False
    reasons["augment_on"] = "device, because it is a GPU"
    return True


def _averaging(settings: Training) -> str:
    if settings.averaging in ("swa", "soup") and settings.batch_norm == "train":
        raise RecipeError(
            f"averaging: {settings.averaging} cannot be used with batch_norm: train, because the "
            "averaged weights need other statistics than the average of the statistics.",
            where="averaging",
            hint="Use averaging: ema, or leave batch_norm at frozen.",
        )
    return settings.averaging


def _coefficients(settings: Training, reasons: dict[str, str]) -> tuple[float, ...]:
    wanted = getattr(settings, "wise_ft", "off")
    if wanted == "off":
        return ()
    if settings.batch_norm == "train":
        if wanted == "auto":
            reasons["wise_ft"] = (
                "off, because the statistics of a trained batch norm cannot be interpolated"
            )
            return ()
        raise RecipeError(
            "wise_ft cannot be used with batch_norm: train, because the statistics of two networks "
            "cannot be interpolated.",
            where="wise_ft",
            hint="Leave batch_norm at frozen, or set wise_ft to off.",
        )
    return COEFFICIENTS if wanted == "auto" else (0.0, float(wanted))
