"""How long the steps of a run will take, from short measurements on this machine."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from acclimate.compression.settings import Prune
from acclimate.context import Context
from acclimate.cpu import usable_cores
from acclimate.data.dataset import SPLITS, Dataset
from acclimate.errors import UnreadableImage, count
from acclimate.models.classifier import Classifier
from acclimate.models.runtime import RUNTIMES
from acclimate.pipeline.steps import Step
from acclimate.recipe import Recipe
from acclimate.training.plan import UNBOUNDED, make_plan
from acclimate.training.settings import Training

_SAMPLE, _BATCH = 12, 16
_BACKWARD = 2.0
"""Time of a backward pass, in forward passes."""
_EXPORT_S, _LATENCY_S = 6.0, 3.0
_AUGMENTATIONS, _AUGMENTED_IMAGES = 14, 400
_INT8_FORMS = 12


@dataclass(frozen=True)
class Forecast:
    """What is known of a run before its trainings.

    Attributes:
        splits: Split to number of images of the main domain.
        seconds: Name of each step to the seconds that it will probably take.
    """

    splits: dict[str, int]
    seconds: dict[str, float]

    def split_sizes(self) -> str:
        """Text such as "780 train, 180 val and 240 test images"."""
        parts = [f"{self.splits[name]:,} {name}" for name in ("train", "val", "test")]
        return f"{', '.join(parts[:-1])} and {parts[-1]} images"

    def lines(self) -> list[str]:
        """The steps, and the time that the longest of them need."""
        total = sum(self.seconds.values())
        longest = sorted(self.seconds.items(), key=lambda item: -item[1])[:3]
        shown = [f"{name} {minutes(s)}" for name, s in longest if s >= 0.1 * total]
        return [
            f"steps: {', '.join(self.seconds)}",
            f"time on this machine: {about(total)} ({', '.join(shown)})",
        ]


@dataclass
class TimeLeft:
    """The time left of a run; the forecast is corrected by the steps that are done.

    Attributes:
        forecast: Made before the first training.
        expected: Seconds forecast for the steps that ran.
        taken: Seconds that they took.
    """

    forecast: Forecast
    expected: float = field(default=0.0)
    taken: float = field(default=0.0)

    def note(self, step: str, seconds: float) -> None:
        """Takes note of a step that ran."""
        self.expected += self.forecast.seconds[step]
        self.taken += seconds

    def before(self, step: str) -> str:
        """The time left before a step, such as "about 12 minutes"."""
        names = list(self.forecast.seconds)
        left = sum(self.forecast.seconds[name] for name in names[names.index(step) :])
        # A few seconds of the first steps say little of the speed of training.
        factor = (self.taken + 30) / (self.expected + 30)
        return about(left * factor)


def minutes(seconds: float) -> str:
    """A duration in words: "less than a minute", "12 minutes" or "3.5 hours"."""
    if seconds < 60:
        return "less than a minute"
    if seconds < 5400:
        return count(round(seconds / 60), "minute")
    return f"{seconds / 3600:.1f} hours"


def about(seconds: float) -> str:
    """An estimated duration: "less than a minute" or "about 12 minutes"."""
    return minutes(seconds) if seconds < 60 else f"about {minutes(seconds)}"


def forecast(
    recipe: Recipe, steps: Sequence[Step], dataset: Dataset, model: Classifier, context: Context
) -> Forecast:
    """Estimates the time of each step; the truth is within a factor of two on an idle machine.

    Args:
        recipe: Settings of the steps.
        steps: The steps of the run.
        dataset: With splits.
        model: The pretrained model.
        context: Device.

    Returns:
        Sizes of the splits, and seconds for each step.
    """
    splits = {name: len(dataset.rows(name)) for name in SPLITS}
    costs = _Costs(
        read=_seconds_to_read(dataset, model),
        forward=_seconds_to_run(model, context),
        splits=splits,
        tested=len(dataset.rows(recipe.evaluate.split, domain=None)),
        context=context,
    )
    return Forecast(splits, {step.name: costs.of(recipe, step.stage) for step in steps})


@dataclass(frozen=True)
class _Costs:
    """Seconds per image, and numbers of images."""

    read: float
    forward: float
    splits: dict[str, int]
    tested: int
    context: Context

    def of(self, recipe: Recipe, stage: str) -> float:
        """Seconds of one use of a stage."""
        images = sum(self.splits.values())
        chosen_on = self.splits["train"] + self.splits["val"]
        seconds = {
            "clean": images * self.read,
            "inspect": images * (self.read + self.forward),
            # inspect has computed the same features
            "probe": chosen_on * self.forward * (recipe.inspect is None),
            "augment": _AUGMENTATIONS * min(chosen_on, _AUGMENTED_IMAGES) * self.forward,
            "quantize": _EXPORT_S + 3 * self.splits["val"] * self.forward,
            "export": _EXPORT_S,
            "evaluate": self.tested * (self.read + self.forward)
            + _LATENCY_S * recipe.evaluate.latency,
        }
        if stage in ("fine-tune", "distill", "prune"):
            return self._training(recipe, stage)
        if stage == "compress":
            return self._search(recipe)
        return seconds.get(stage, 0.0)

    def _search(self, recipe: Recipe) -> float:
        """Int8 forms on the ranking images, the best on val, and a training for each ratio."""
        settings = recipe.compress
        assert settings is not None
        if settings.max_minutes is not None:
            return 60 * settings.max_minutes
        ranked = settings.calibration_images + _INT8_FORMS * settings.ranking_images
        seconds = _EXPORT_S + (ranked + 3 * self.splits["val"]) * self.forward
        if "prune" in settings.allow:
            pruning = recipe.model_copy(update={"prune": Prune(epochs=settings.epochs)})
            seconds += len(settings.prune_ratios) * self._training(pruning, "prune")
        return seconds

    def _training(self, recipe: Recipe, stage: str) -> float:
        settings = getattr(recipe, stage.replace("-", "_"))
        assert isinstance(settings, Training)
        exports = 2 * _EXPORT_S if stage == "prune" else 0.0
        plan = make_plan(settings, max(self.splits["train"], 1), self.context)
        if plan.epochs == UNBOUNDED and plan.max_minutes is not None:
            return 60 * plan.max_minutes + exports
        teacher = 0.0 if stage == "fine-tune" else self.forward
        train = self.splits["train"] * (self.read + (1 + _BACKWARD) * self.forward + teacher)
        return plan.epochs * (train + self.splits["val"] * self.forward) + exports


def _seconds_to_read(dataset: Dataset, model: Classifier) -> float:
    """Seconds per image on all cores."""
    rows = dataset.rows()
    some = rows[:: max(1, len(rows) // _SAMPLE)]
    began = time.monotonic()
    for row in some.tolist():
        with suppress(UnreadableImage):
            model.contract.read(dataset.path(row))
    return (time.monotonic() - began) / max(len(some), 1) / usable_cores()


def _seconds_to_run(model: Classifier, context: Context) -> float:
    """Seconds per image of a forward pass, in a batch."""
    import numpy as np

    run = RUNTIMES["onnx" if model.network is None else "torch"](model, context.device)
    size = model.contract.image_size
    images = np.zeros((_BATCH, size, size, 3), np.uint8)
    run(images)  # the first call allocates memory and chooses kernels
    began = time.monotonic()
    run(images)
    return (time.monotonic() - began) / _BATCH
