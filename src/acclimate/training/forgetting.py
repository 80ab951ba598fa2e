"""What new classes cost the old ones: measured where images of them are at hand, else estimated."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from acclimate.context import Context
from acclimate.data.batches import in_order
from acclimate.data.dataset import Dataset, Rows
from acclimate.errors import count
from acclimate.models.class_statistics import ClassStatistics
from acclimate.models.classifier import Classifier
from acclimate.models.runtime import Logits, run_torch
from acclimate.models.structure import head

_SHOWN = 3
_DRAWN = 200
"""Features of each class: an accuracy of 0.9 is then known to 0.02."""


@dataclass(frozen=True)
class Forgetting:
    """What a classifier lost.

    Attributes:
        figures: For the card.
        told: In words, without a full stop.
    """

    figures: Mapping[str, float]
    told: str


def priced(made: Classifier, before: Classifier, dataset: Dataset, context: Context) -> Classifier:
    """The classifier whose last step says what the new classes cost the old ones.

    Args:
        made: Of the classes of before, in their order, and then of new ones.
        before: What it was made from.
        dataset: Of the classes of made; only val judges.
        context: The run; hears it in one line.

    Returns:
        The same classifier with more on its card.
    """
    found = forgetting(made, before, dataset, context)
    context.progress.say(found.told)
    step = made.card.steps[-1]
    note = f"{found.told[0].upper()}{found.told[1:]}."
    step = replace(step, figures={**step.figures, **found.figures}, notes=(*step.notes, note))
    card = replace(made.card, parent=before.digest, steps=(*made.card.steps[:-1], step))
    return replace(made, card=card)


def forgetting(
    made: Classifier, before: Classifier, dataset: Dataset, context: Context
) -> Forgetting:
    """Sets a classifier of more classes against the one that it was made from.

    Old classes that val has images of are measured. The others are estimated from the class
    statistics, which hold of both where the backbone was left alone.

    Args:
        made: Of the classes of before, in their order, and then of new ones.
        before: What it was made from.
        dataset: Of the classes of made; only val judges.
        context: The run.

    Returns:
        Figures and words.
    """
    rows, old = dataset.rows("val"), len(before.classes)
    labels = dataset.labels[rows]
    ours = _logits(before, dataset, rows, context)
    theirs = _logits(made, dataset, rows, context)
    figures, parts = {}, []
    is_old = (labels >= 0) & (labels < old)
    if is_old.any():
        then, now = ours[is_old].argmax(1), theirs[is_old].argmax(1)
        pair = _Pair(labels[is_old], then, now)
        figures.update(pair.figures("old_accuracy"))
        parts.append(f"{pair.told(made.classes)} on {count(int(is_old.sum()), 'val image')}")
    unseen = np.setdiff1d(np.arange(old), labels)
    if len(unseen) and made.statistics is not None and before.statistics is not None:
        pair = _drawn(made, before, unseen, context)
        figures.update(pair.figures("estimated_old_accuracy"))
        parts.append(
            f"{pair.told(made.classes)} by an estimate from class statistics, since there are no "
            f"val images of {count(len(unseen), 'class', 'classes')}"
        )
    is_new = labels >= old
    if is_new.any():
        right = theirs[is_new].argmax(1) == labels[is_new]
        same = theirs[is_new][:, :old].argmax(1) == ours[is_new].argmax(1)
        figures["new_accuracy"] = float(right.mean())
        figures["old_agreement"] = float(same.mean())
        parts.append(
            f"on new images both name the same old class {100 * same.mean():.0f} % of the time"
        )
    words = "; ".join(parts) or "no val images to judge them by"
    return Forgetting(figures, f"old classes: {words}")


@dataclass(frozen=True)
class _Pair:
    """Old classes' images and what two classifiers say of them; all int64, (n,)."""

    labels: NDArray[np.int64]
    then: NDArray[np.int64]
    now: NDArray[np.int64]

    def figures(self, name: str) -> dict[str, float]:
        return {f"{name}_before": self._share(self.then), f"{name}_after": self._share(self.now)}

    def told(self, classes: tuple[str, ...]) -> str:
        then, now = self._share(self.then), self._share(self.now)
        losses = {i: self._recall(self.then, i) - self._recall(self.now, i) for i in self._ids}
        worst = sorted((i for i in losses if losses[i] > 0), key=losses.__getitem__, reverse=True)
        shown = ", ".join(
            f"{classes[i]!r} {self._recall(self.then, i):.2f} to {self._recall(self.now, i):.2f}"
            for i in worst[:_SHOWN]
        )
        lost = f" (most lost: {shown})" if shown else ""
        return f"accuracy {then:.3f} before and {now:.3f} after{lost}"

    @property
    def _ids(self) -> list[int]:
        return [int(i) for i in np.unique(self.labels)]

    def _share(self, said: NDArray[np.int64]) -> float:
        return float((said == self.labels).mean())

    def _recall(self, said: NDArray[np.int64], label: int) -> float:
        return float((said[self.labels == label] == label).mean())


def _drawn(
    made: Classifier, before: Classifier, classes: NDArray[np.int64], context: Context
) -> _Pair:
    """What both heads say of features drawn from the statistics of some old classes."""
    statistics = before.statistics
    assert isinstance(statistics, ClassStatistics)
    labels = np.repeat(classes, _DRAWN)
    rng = np.random.default_rng(context.seed_for("forgetting"))
    features = torch.from_numpy(statistics.drawn(labels, rng))
    with torch.inference_mode():
        then, now = (head(one.module())(features).argmax(1).numpy() for one in (before, made))
    return _Pair(labels, then, now)


def _logits(classifier: Classifier, dataset: Dataset, rows: Rows, context: Context) -> Logits:
    """float32, (n, C)."""
    run = run_torch(classifier, context.device)
    found = [
        run(batch.images) for batch in in_order(dataset, rows, classifier.contract, context=context)
    ]
    return np.concatenate(found) if found else np.empty((0, len(classifier.classes)), np.float32)
