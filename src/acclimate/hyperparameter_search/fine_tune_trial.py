"""One trial of a search: the whole network, trained with the trial's settings."""

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from acclimate.augmentation.policy import Policy
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.errors import ModelFileError, RecipeError
from acclimate.files import digest_json
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.hyperparameter_search.fine_tune_space import space
from acclimate.hyperparameter_search.settings import Search
from acclimate.hyperparameter_search.space import Space
from acclimate.hyperparameter_search.study import FinishedTrial, Outcome, RunningTrial
from acclimate.models.classifier import Classifier, plain
from acclimate.models.heads import head_kind, replace_head
from acclimate.models.structure import head_names
from acclimate.progress import OnlyBars
from acclimate.training.curve import Epoch
from acclimate.training.engine.divergence import DivergedError
from acclimate.training.engine.loop import EpochCallback
from acclimate.training.plan import TrainPlan, make_plan

_VERSION = 1
"""Raised when trials of another version cannot be compared."""


@dataclass(frozen=True)
class SearchJob:
    """What all trials of a search have in common.

    Attributes:
        classifier: The classifier that each trial fine-tunes.
        dataset: The images.
        policy: Augmentation.
        settings: Settings of fine-tuning; those that are given keep their values.
        ranges: Ranges of the others.
        context: Seed, device, progress.
    """

    classifier: Classifier
    dataset: Dataset
    policy: Policy
    settings: FineTune
    ranges: Search
    context: Context

    @cached_property
    def plan(self) -> TrainPlan:
        """Plan of the first trial; all trials have its number of epochs."""
        return make_plan(self.settings, len(self.dataset.rows("train")), self.context)

    @cached_property
    def kept_head(self) -> str | None:
        """Kind of the classifier's own head if it is kept; None if a new one is fitted."""
        kind = head_kind(self.classifier.module())
        knows = self.classifier.classes == self.dataset.classes
        return kind if knows and self.settings.head in ("auto", kind) else None

    @cached_property
    def space(self) -> Space:
        """The search space."""
        ranges = self.ranges
        if len(head_names(self.classifier.module())) > 1:  # only linear heads can replace both
            ranges = ranges.model_copy(update={"head": ("linear",)})
        return space(ranges, self.settings, self.plan, mixup=self.policy.mixup, head=self.kept_head)

    def made_of(self) -> dict[str, str]:
        """Name and digest of each input that all trials must share."""
        weighted = self.settings.label_weights
        return {
            "model": self.classifier.digest,
            "data": self.dataset.digest + (self.dataset.scores_digest if weighted else ""),
            "augmentation": self.policy.digest,
            "settings": digest_json([_VERSION, plain(self.settings), self.space.as_record()]),
            "seed": str(self.context.seed),
        }

    def with_values(self, values: Mapping[str, Any]) -> tuple[FineTune, Policy]:
        """Settings and policy with the values of a trial."""
        own = {name: value for name, value in values.items() if name != "mixup"}
        policy = replace(self.policy, mixup=values["mixup"]) if "mixup" in values else self.policy
        return self.settings.model_copy(update=own), policy

    def fine_tuned(
        self, values: Mapping[str, Any], place: Path, epoch_callback: EpochCallback | None = None
    ) -> Classifier:
        """Fine-tunes with the values of a trial.

        Args:
            values: Value of each searched setting.
            place: Folder for its checkpoints.
            epoch_callback: Called after each epoch; returns whether to continue.

        Returns:
            The classifier.
        """
        settings, policy = self.with_values(values)
        bars = OnlyBars(self.context.progress)
        context = replace(self.context, workspace=place, progress=bars)
        return fine_tune(
            self.classifier,
            self.dataset,
            policy,
            settings,
            context=context,
            epoch_callback=epoch_callback,
        )

    def own_module(self) -> nn.Module | None:
        """A module for the weights of the user's own network; None for timm's networks."""
        if self.classifier.architecture.startswith("timm:"):
            return None
        network = copy.deepcopy(self.classifier.module())
        if self.classifier.classes != self.dataset.classes:
            replace_head(network, "linear", len(self.dataset.classes))
        return network


def run_trial(
    job: SearchJob, trial: RunningTrial, place: Path, seconds_left: Callable[[], float]
) -> tuple[FinishedTrial, Classifier | None]:
    """Trains one network.

    Args:
        job: What all trials have in common.
        trial: The trial; each epoch is reported to it.
        place: Folder for its checkpoints.
        seconds_left: Returns the seconds until it must end.

    Returns:
        How it ended, and its classifier if it was not pruned.

    Raises:
        RecipeError: In the first trial: a given setting does not fit the data or the network.
    """
    began = time.monotonic() - trial.elapsed
    seen: list[Epoch] = []
    outcome: Outcome = "done"

    def epoch_callback(epoch: Epoch) -> bool:
        nonlocal outcome
        seen.append(epoch)
        if trial.report(epoch.epoch, epoch.val_accuracy, time.monotonic() - began):
            raise _PrunedError
        if epoch.epoch < job.plan.epochs and seconds_left() < epoch.seconds / epoch.epoch:
            outcome = "out of time"
        return outcome == "done"

    model, note = None, ""
    try:
        model = job.fine_tuned(trial.values, place, epoch_callback)
    except _PrunedError:
        outcome = "pruned"
    except DivergedError as error:
        outcome, note = "diverged", str(error)
    except (RecipeError, ModelFileError) as error:
        if trial.number == 0:
            raise
        outcome, note = "refused", str(error)
    last = seen[-1] if seen else None
    finished = FinishedTrial(
        trial.number, trial.values, outcome, epochs=last.epoch if last else 0, note=note,
        val_accuracy=last.val_accuracy if last else math.nan, seconds=time.monotonic() - began,
    )  # fmt: skip
    return (finished, None) if model is None else (_of(model, finished), model)


def _of(model: Classifier, finished: FinishedTrial) -> FinishedTrial:
    """Adds the figures of the weights that were kept, from the classifier's card."""
    step = model.card.steps[-1]
    loss = step.curve[int(step.figures["best_epoch"])]["val_loss"]
    return replace(
        finished, val_accuracy=step.figures["val_accuracy"], epochs=int(step.figures["epochs"]),
        val_loss=math.nan if loss is None else loss, digest=model.digest,
    )  # fmt: skip


class _PrunedError(Exception):
    """Ends a trial that is pruned."""
