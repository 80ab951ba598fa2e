"""Whether a compressed model is kept: measured on this machine, against the one it came from."""

from dataclasses import dataclass

import numpy as np

from acclimate.data.dataset import Dataset, Rows
from acclimate.data.images.batches import ordered_batches
from acclimate.evaluation.evaluate import shipped_bytes
from acclimate.evaluation.latency import measure_latency
from acclimate.models.classifier import Classifier
from acclimate.models.runtime import Run

_TOLERANCE = 1e-9
MAX_IMAGES = 5_000
"""Val images that decide: a point of accuracy is well summary apart with so many."""


@dataclass(frozen=True)
class Acceptance:
    """What compression gave and cost.

    Attributes:
        keep: Whether it is worth having.
        figures: What was measured.
        reason: One sentence.
        drop_exceeds_limit: More accuracy than is allowed.
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
) -> Acceptance:
    """Compares a compressed classifier with its origin on val, in bytes and in time.

    Args:
        names: Of origin and result, for the sentence.
        models: Origin and result.
        runs: How each is run.
        dataset: Its val split decides; train where there is no val.
        max_accuracy_drop: Percentage points that may be lost.

    Returns:
        Whether to keep the result, and why.
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
    summary = (
        f"{names[1]}: {sizes[1] / sizes[0]:.2f} of the size and {speedup:.2f} times the speed of "
        f"{names[0]}, val accuracy {before:.3f} to {after:.3f}"
    )
    if drop > max_accuracy_drop + _TOLERANCE:
        return Acceptance(
            False,
            figures,
            f"{summary}: not kept, it loses {drop:.1f} points and {max_accuracy_drop:g} are "
            "allowed.",
            drop_exceeds_limit=True,
        )
    if sizes[1] >= 0.98 * sizes[0] and speedup <= 1.02:
        return Acceptance(False, figures, f"{summary}: not kept, it is neither smaller nor faster.")
    return Acceptance(True, figures, f"{summary}: kept.")


def acceptance_rows(dataset: Dataset) -> Rows:
    """The val images, spread evenly where there are very many; train where there is no val."""
    rows = dataset.rows("val") if len(dataset.rows("val")) else dataset.rows("train")
    if len(rows) > MAX_IMAGES:
        rows = rows[np.linspace(0, len(rows) - 1, MAX_IMAGES).astype(np.int64)]
    return rows


def accuracy(run: Run, model: Classifier, dataset: Dataset, rows: Rows) -> float:
    """The part of some images that is named right, in [0, 1]."""
    right = 0
    for batch in ordered_batches(dataset, rows, model.contract):
        right += int((run(batch.images).argmax(1) == batch.targets).sum())
    return right / len(rows)
