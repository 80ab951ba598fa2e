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
    """Says the numbers that were chosen, and why."""
    epochs, minutes = count(plan.epochs, "epoch"), plan.max_minutes
    ending = epochs if minutes is None else f"{minutes:g} minute{'s' * (minutes != 1)}"
    context.progress.info(
        f"plan: {ending}, batch {plan.batch_size}, rate {plan.learning_rate:.2g}, "
        f"{plan.precision} on {plan.device}"
    )
    for name, reason in plan.reasons.items():
        context.progress.info(f"  {name}: {reason}")


def record(
    stage: str, settings: dict[str, Any], trained: TrainResult, plan: TrainPlan
) -> StepRecord:
    """What a card says of a training.

    Args:
        stage: Its name.
        settings: With every default written out.
        trained: Result and curve.
        plan: The numbers that were used.

    Returns:
        The step.
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
        notes.append(f"Loss or gradient was no number: {count(incidents.skipped, 'step')} skipped.")
    if incidents.micro_batch:
        held = count(incidents.micro_batch, "image")
        notes.append(f"Memory was too small: {held} at once, gradients added up.")
    if trained.blend is not None:
        notes += trained.blend.notes
        if trained.blend.coefficient is not None:
            figures["wise_ft"] = trained.blend.coefficient
    notes += start_kept_notes(trained.curve, plan.learning_rate, kept=trained.is_start)
    # JSON has no NaN: what is unknown (the train loss before any step) is null.
    curve = tuple(
        {name: None if math.isnan(v) else float(v) for name, v in asdict(line).items()}
        for line in trained.curve
    )
    return StepRecord(stage, settings, figures, tuple(notes), curve)
