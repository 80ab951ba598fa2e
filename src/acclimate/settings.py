"""Sections of a recipe: typed, frozen, and strict about unknown names."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from acclimate.errors import RecipeError, near_names

Auto = Literal["auto"]

Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(ge=0, lt=1)]
Points = Annotated[float, Field(ge=0, le=100)]
"""Percentage points of accuracy."""


SHORT = {"lr": "learning_rate"}
"""Short names that Python accepts for settings."""

OTHER_WORDS: Mapping[str, tuple[str, ...]] = {
    "accumulation_steps": ("accumulate_grad_batches", "grad_accum", "gradient_accumulation_steps"),
    "averaging": ("ema", "model_ema", "swa", "soup"),
    "balance": ("balanced", "class_weight", "class_weights", "sampler"),
    "batch_size": ("b", "batch", "bs", "per_device_train_batch_size", "train_batch_size"),
    "calibration_images": ("calib", "calibration_samples", "calibration_size"),
    "color": ("color_jitter", "jitter"),
    "crop_area": ("random_resized_crop", "scale"),
    "drop_path": ("drop_path_rate", "stochastic_depth"),
    "dropout": ("drop_rate", "head_dropout"),
    "epochs": ("epoch", "ep", "max_epochs", "n_epochs", "nb_epochs", "num_epochs",
               "num_train_epochs", "number_of_epochs"),
    "erasing": ("random_erase", "random_erasing", "reprob"),
    "horizontal_flip": ("flip", "fliplr", "hflip"),
    "image_size": ("crop_size", "image_width", "img_size", "imgsz", "input_shape", "input_size",
                   "px", "res", "resize", "resolution", "size"),
    "label_smoothing": ("smoothing",),
    "learning_rate": ("base_lr", "init_lr", "initial_learning_rate", "lr", "lr0", "max_lr", "rate"),
    "max_accuracy_drop": ("accuracy_budget", "accuracy_drop", "max_drop"),
    "max_gradient_norm": ("clip", "clip_grad", "clip_norm", "grad_clip", "gradient_clip_val",
                          "max_grad_norm"),
    "operations_per_image": ("randaugment", "trivialaugment"),
    "optimizer": ("opt", "optim", "optimiser"),
    "patience": ("early_stop", "early_stopping"),
    "precision": ("amp", "bf16", "dtype", "fp16", "half", "mixed_precision"),
    "ratio": ("amount", "prune_ratio", "pruning_ratio", "sparsity"),
    "schedule": ("lr_schedule", "lr_scheduler", "lr_scheduler_type", "sched", "scheduler"),
    "teachers": ("teacher",),
    "temperature": ("tau",),
    "test": ("test_fraction", "test_ratio", "test_size", "test_split"),
    "tracking_uri": ("mlflow", "mlflow_uri"),
    "trainable": ("freeze", "freeze_backbone", "frozen", "lora", "train_layers", "unfreeze"),
    "val": ("val_fraction", "val_ratio", "val_size", "val_split", "valid_pct", "valid_size",
            "validation", "validation_split"),
    "vertical_flip": ("flipud", "vflip"),
    "warmup": ("warmup_epochs", "warmup_ratio", "warmup_steps"),
    "weight_decay": ("wd",),
    "weights": ("checkpoint", "checkpoint_path", "ckpt", "load", "pretrained_weights"),
}  # fmt: skip
"""Name of a setting to what other libraries call it. Only messages use it: none is accepted."""
_MEANT = {word: name for name, words in OTHER_WORDS.items() for word in words}


class Settings(BaseModel):
    """A section of a recipe: the settings of a stage, with a help text for each."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
    )

    RENAMED: ClassVar[Mapping[str, str]] = {}
    """Old name of a setting to its new name. The old one is an error that names the new one."""


_Kind = TypeVar("_Kind", bound=Settings)


def from_keywords(
    kind: type[_Kind], fields: Mapping[str, Any], *, beside: Sequence[str] = ()
) -> _Kind:
    """Makes settings from keywords; `lr` means `learning_rate`.

    Args:
        kind: The class of the section.
        fields: Name to value.
        beside: Other keywords of the function, which a wrong name may mean.

    Returns:
        The settings.

    Raises:
        RecipeError: A name or value is wrong; the message names the nearest setting.
    """
    for short, long in SHORT.items():
        if short in fields and long in fields:
            raise RecipeError(f"{short} and {long} are the same setting: give one of them.")
    full = {SHORT.get(name, name): value for name, value in fields.items()}
    for name in full:
        if name not in kind.model_fields:
            hint = right_name(kind, name, beside)
            raise RecipeError(f"{kind.__name__} has no setting {name!r}. {hint}")
    try:
        return kind(**full)
    except ValidationError as error:
        # A union reports an error for each of its members: the first is enough.
        faults = {
            e["loc"][0]: f"{e['msg'].lower().removeprefix('value error, ')}, got {e['input']!r}"
            for e in error.errors()[::-1]
        }
        message = "; ".join(f"{name} {fault}" for name, fault in faults.items())
        raise RecipeError(f"{message}.") from error


def right_name(kind: type[Settings], name: str, beside: Sequence[str] = ()) -> str:
    """A sentence that says which setting a wrong name may mean.

    Args:
        kind: The class of the section.
        name: What the user wrote.
        beside: Names that are known too.

    Returns:
        The new name of an old one, the nearest names, or all names.
    """
    if name in kind.RENAMED:
        return f"It is now called {kind.RENAMED[name]!r}."
    known = [*kind.model_fields, *beside]
    if meant_name(name) in known:
        return f"Did you mean {meant_name(name)!r}?"
    return near_names(name, known)


def meant_name(word: str) -> str:
    """The setting that a word of another library means; the word with underscores if none."""
    plain = word.strip("-").lower().replace("-", "_")
    return _MEANT.get(plain, plain)


def one_line(description: str | None) -> str:
    """The meaning of a setting on one line, for a table or a comment."""
    return " ".join((description or "").split())


def json_schema(settings: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a section, for editors."""
    return TypeAdapter(settings).json_schema()
