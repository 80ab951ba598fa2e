"""One training of a stage: the plan, the learning rate, the time left, the loop, the record."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from acclimate.context import Context
from acclimate.models.classifier import StepRecord, plain
from acclimate.training.batches.train_batches import BatchSource
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.engine.loop import EpochCallback, TrainResult, train
from acclimate.training.engine.resume import stage_settings
from acclimate.training.engine.step import Objective
from acclimate.training.engine.time_budget import with_time_left
from acclimate.training.lr_finder import resolve_rate
from acclimate.training.optim.optimizers import OptimizerFactory
from acclimate.training.plan import TrainPlan, make_plan
from acclimate.training.record import log_plan, record
from acclimate.training.settings import Training


@dataclass(frozen=True)
class Fit:
    """The result of a training.

    Attributes:
        result: The network with the weights that were kept, and the training curve.
        plan: The numbers that were used.
        step: The entry for the model's card.
    """

    result: TrainResult
    plan: TrainPlan
    step: StepRecord

    @property
    def network(self) -> nn.Module:
        """The network with the weights that were kept, on the CPU, in evaluation mode."""
        return self.result.network


class Session:
    """What every stage that trains does around the loop.

    Creating a session makes the plan and prints it. The stage then prepares its network and may
    decide on settings that were left at "auto". `fit` finds the learning rate if the settings ask
    for it, subtracts the time that is gone, and trains; from there on the plan does not change.

    Args:
        stage: Name of the stage in the record.
        settings: Settings of the stage, as they were given.
        images: Number of training images.
        context: Seed, device, workspace, progress.
        began: When the stage began, on the monotonic clock; None is now.
    """

    def __init__(
        self,
        stage: str,
        settings: Training,
        images: int,
        context: Context,
        *,
        began: float | None = None,
    ) -> None:
        self._began = time.monotonic() if began is None else began
        self._stage, self._context = stage, context
        self._given = self._resolved = settings
        self.plan = make_plan(settings, images, context)
        log_plan(self.plan, context)

    @property
    def time_left(self) -> TrainPlan:
        """The plan with what is left of its minutes."""
        return with_time_left(self.plan, self._began)

    def decide(self, settings: Training, name: str, reason: str) -> None:
        """Takes note of a setting that the stage chose itself.

        Args:
            settings: The settings with the choice in them.
            name: Name of the setting.
            reason: Why, for the log and the record.
        """
        self._context.progress.info(f"  {name}: {reason}")
        self._resolved = settings
        self.plan = replace(self.plan, reasons={**self.plan.reasons, name: reason})

    def find_rate(
        self,
        network: nn.Module,
        images: TrainingImages,
        objective: Objective,
        optimizer: OptimizerFactory | None = None,
    ) -> None:
        """Runs the range test if the settings ask for it and it has not been run yet.

        Args:
            network: In the end unchanged.
            images: The images.
            objective: The loss.
            optimizer: In place of the one that the plan names.
        """
        self.plan = resolve_rate(
            self.plan, network, images, objective, context=self._context, optimizer=optimizer
        )

    def fit(
        self,
        network: nn.Module,
        batches: TrainingImages | BatchSource,
        objective: Objective,
        *,
        optimizer: OptimizerFactory | None = None,
        keep_start: bool = True,
        epoch_callback: EpochCallback | None = None,
        fingerprint: Mapping[str, object] | None = None,
        recorded: Mapping[str, Any] | None = None,
    ) -> Fit:
        """Trains a network; see `training.engine.loop.train`.

        Args:
            network: Changed in place.
            batches: The images, or a source of batches.
            objective: The loss.
            optimizer: In place of the one that the plan names.
            keep_start: Whether the start comes back if no epoch is as accurate on val.
            epoch_callback: Called after each epoch; returns whether to continue.
            fingerprint: What the weights depend on beside the plan, the settings and the images.
            recorded: Entries for the record beside the settings.

        Returns:
            The trained network, the plan, and the entry for the model's card.
        """
        if isinstance(batches, TrainingImages):
            self.find_rate(network, batches, objective, optimizer)
        self.plan = self.time_left
        result = train(
            network, batches, objective, self.plan, context=self._context, optimizer=optimizer,
            keep_start=keep_start, epoch_callback=epoch_callback,
            fingerprint={**stage_settings(self._resolved), **(fingerprint or {})},
        )  # fmt: skip
        used = {**plain(self._given), **(recorded or {})}
        if optimizer is not None:
            used["optimizer"] = getattr(optimizer, "__qualname__", repr(optimizer))
        return Fit(result, self.plan, record(self._stage, used, result, self.plan))
