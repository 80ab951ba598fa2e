"""Whether to keep a compressed model: accuracy, size and speed against the original."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acclimate.context import Context
from acclimate.data.dataset import Dataset, Rows
from acclimate.data.images.batches import ordered_batches
from acclimate.evaluation.evaluate import shipped_bytes
from acclimate.evaluation.latency import measure_latency
from acclimate.models.classifier import Classifier
from acclimate.models.runtime import Run

_TOLERANCE = 1e-9
FASTER, SMALLER = 1.02, 0.98
"""Speedup and ratio of sizes from which a compressed model is faster or smaller at all."""
SLOWER = 0.9
"""Speedup below which a model counts as slower, if the machine is not busy; two measurements of
one model differ by less."""
MAX_IMAGES = 5_000
"""Largest number of val images used: enough to resolve one point of accuracy."""


@dataclass(frozen=True)
class Acceptance:
    """The comparison of a compressed model with its original.

    Attributes:
        keep: Whether to keep the compressed model.
        figures: The measurements.
        reason: The measurements and the decision in words.
        drop_exceeds_limit: Whether accuracy drops by more than is allowed.
    """

    keep: bool
    figures: dict[str, float]
    reason: str
    drop_exceeds_limit: bool = False


def assess_compression(
    names: tuple[str, str],
    models: tuple[Classifier, Classifier],
    runs: tuple[Run, Run],
    dataset: Dataset,
    max_accuracy_drop: float,
    *,
    must_not_slow_down: bool = False,
) -> Acceptance:
    """Compares a compressed classifier with its original in val accuracy, size and speed.

    Args:
        names: Names of original and result, for the reason.
        models: Original and result.
        runs: Functions that run original and result.
        dataset: Its val split is used, or its train split if val is empty.
        max_accuracy_drop: Allowed drop of accuracy, in percentage points.
        must_not_slow_down: Whether a result that is slower is not kept, even if it is smaller.

    Returns:
        Whether to keep the result, with figures and reason.
    """
    rows = acceptance_rows(dataset)
    before, after = (
        accuracy(run, model, dataset, rows) for run, model in zip(runs, models, strict=True)
    )
    sizes = [shipped_bytes(model) for model in models]
    times = measure_latency(
        dict(zip(("before", "after"), runs, strict=True)),
        {n: m.contract.image_size for n, m in zip(("before", "after"), models, strict=True)},
    )
    speedup = times["after"].images_per_s / times["before"].images_per_s
    drop = (before - after) * 100
    figures = {
        "val_accuracy_before": before,
        "val_accuracy": after,
        "size_ratio": sizes[1] / sizes[0],
        "speedup": speedup,
        "p50_ms_before": times["before"].p50_ms,
        "p50_ms": times["after"].p50_ms,
    }
    busy = any(found.busy for found in times.values())
    note = " (measured on a busy machine)" if busy else ""
    summary = (
        f"{names[1]}: {sizes[1] / sizes[0]:.2f}x the size and {speedup:.2f}x the speed of "
        f"{names[0]}{note}, val accuracy {before:.3f} -> {after:.3f}."
    )
    exceeds = drop > max_accuracy_drop + _TOLERANCE
    fault = None
    if exceeds:
        fault = f"the drop of {drop:.1f} points exceeds max_accuracy_drop ({max_accuracy_drop:g})"
    elif must_not_slow_down and speedup < SLOWER and not busy:
        fault = "it is slower"
    elif sizes[1] >= SMALLER * sizes[0] and speedup <= FASTER:
        fault = "neither smaller nor faster"
    decision = "Kept" if fault is None else f"Not kept: {fault}"
    return Acceptance(fault is None, figures, f"{summary} {decision}.", exceeds)


def acceptance_rows(dataset: Dataset) -> Rows:
    """The val images, or an evenly spaced sample of them; train images if val is empty."""
    rows = dataset.rows("val") if len(dataset.rows("val")) else dataset.rows("train")
    if len(rows) > MAX_IMAGES:
        rows = rows[np.linspace(0, len(rows) - 1, MAX_IMAGES).astype(np.int64)]
    return rows


def accuracy(run: Run, model: Classifier, dataset: Dataset, rows: Rows) -> float:
    """The accuracy on some images, in [0, 1]."""
    return float((predictions(run, model, dataset, rows) == dataset.labels[rows]).mean())


def predictions(
    run: Run, model: Classifier, dataset: Dataset, rows: Rows, *, context: Context | None = None
) -> NDArray[np.int64]:
    """The classes that a model predicts.

    Args:
        run: Runs the model.
        model: Gives the input contract.
        dataset: The images.
        rows: Which ones.
        context: Its cache keeps decoded images; without a context none are kept.

    Returns:
        int64, (N,): class ids, in the order of the rows.
    """
    batches = ordered_batches(dataset, rows, model.contract, context=context)
    return np.concatenate([run(batch.images).argmax(1) for batch in batches])
