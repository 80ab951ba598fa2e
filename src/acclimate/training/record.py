"""The plan and the result of a training, as the log and the model's card show them."""

import math
from dataclasses import asdict
from typing import Any

from acclimate.context import Context
from acclimate.errors import count
from acclimate.models.classifier import StepRecord
from acclimate.training.engine.divergence import start_kept_notes
from acclimate.training.engine.loop import TrainResult
from acclimate.training.plan import TrainPlan


def log_plan(plan: TrainPlan, context: Context) -> None:
    """Logs the numbers of the plan and the reasons for those that were chosen."""
    epochs, minutes = count(plan.epochs, "epoch"), plan.max_minutes
    ending = epochs if minutes is None else f"{minutes:g} minute{'s' * (minutes != 1)}"
    context.progress.info(
        f"plan: {ending}, batch size {plan.batch_size}, learning rate {plan.learning_rate:.2g}, "
        f"{plan.precision} on {plan.device}"
    )
    for name, reason in plan.reasons.items():
        context.progress.info(f"  {name}: {reason}")


def record(
    stage: str, settings: dict[str, Any], trained: TrainResult, plan: TrainPlan
) -> StepRecord:
    """The entry of a training for the model's card.

    Args:
        stage: Name of the stage.
        settings: All settings, defaults included.
        trained: Result and curve.
        plan: The numbers that were used.

    Returns:
        The entry.
    """
    start = trained.curve[0]
    of_val = {"val_accuracy": trained.val_accuracy, "start_val_accuracy": start.val_accuracy}
    figures = {
        **({} if math.isnan(start.val_loss) else of_val),
        "best_epoch": trained.best_epoch,
        "epochs": trained.curve[-1].epoch,
        "learning_rate": plan.learning_rate,
        "batch_size": plan.batch_size,
        "seconds": trained.curve[-1].seconds,
    }
    notes = [f"{name}: {reason}." for name, reason in plan.reasons.items()]
    incidents = trained.incidents
    if incidents.skipped:
        figures["skipped_steps"] = incidents.skipped
        notes.append(
            f"Loss or gradient was not finite: {count(incidents.skipped, 'step')} skipped."
        )
    if incidents.micro_batch:
        micro_batch = count(incidents.micro_batch, "image")
        notes.append(f"Out of memory: gradient accumulation with micro-batches of {micro_batch}.")
    if trained.blend is not None:
        notes += trained.blend.notes
        if trained.blend.coefficient is not None:
            figures["wise_ft"] = trained.blend.coefficient
    notes += start_kept_notes(trained.curve, plan.learning_rate, kept=trained.is_start)
    # JSON has no NaN, so unknown values (the train loss before the first step) are null.
    curve = tuple(
        {name: None if math.isnan(v) else float(v) for name, v in asdict(line).items()}
        for line in trained.curve
    )
    return StepRecord(stage, settings, figures, tuple(notes), curve)
