"""How much accuracy on the old classes is lost when classes are added."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.errors import count
from acclimate.models.classifier import Classifier
from acclimate.models.runtime import Logits, predict_logits
from acclimate.models.structure import backbone, head
from acclimate.models.weights import digest_weights

_SHOWN = 3


@dataclass(frozen=True)
class Forgetting:
    """The measured forgetting of a classifier.

    Attributes:
        figures: For the card: `old_accuracy_before` and `old_accuracy_after` if they can be
            measured; `new_accuracy` and `old_agreement` (how often the most likely old class is
            the same as before) on images of new classes.
        summary: In words, without a full stop.
    """

    figures: Mapping[str, float]
    summary: str


def with_forgetting_report(
    made: Classifier, before: Classifier, dataset: Dataset, context: Context
) -> Classifier:
    """Measures forgetting and adds it to the last step of the card.

    Args:
        made: The new classifier: the classes of before, in their order, then the new ones.
        before: The classifier that it was trained from.
        dataset: Data with the classes of made; only val is used.
        context: Device and progress.

    Returns:
        The new classifier with the figures on its card.
    """
    found = forgetting(made, before, dataset, context)
    context.progress.info(found.summary)
    step = made.card.steps[-1]
    note = f"{found.summary[0].upper()}{found.summary[1:]}."
    step = replace(step, figures={**step.figures, **found.figures}, notes=(*step.notes, note))
    card = replace(made.card, parent=before.digest, steps=(*made.card.steps[:-1], step))
    return replace(made, card=card)


def forgetting(
    made: Classifier, before: Classifier, dataset: Dataset, context: Context
) -> Forgetting:
    """Compares a classifier with added classes with the one that it was trained from.

    Old classes are measured on their val images. Old classes without val images are measured on
    the val features stored in the old model, if the backbone did not change.

    Args:
        made: The new classifier: the classes of before, in their order, then the new ones.
        before: The classifier that it was trained from.
        dataset: Data with the classes of made; only val is used.
        context: Device and progress.

    Returns:
        Figures and a summary.
    """
    rows, old = dataset.rows("val"), len(before.classes)
    labels = dataset.labels[rows]
    ours, theirs = (
        predict_logits(one, dataset, rows, context, task="old classes") for one in (before, made)
    )
    pairs = _LogitPairs(labels, ours, theirs)
    seen, held = (
        pairs.select((labels >= 0) & (labels < old)),
        _held(made, before, np.unique(labels)),
    )
    figures: dict[str, float] = {}
    parts = []
    if len(old_images := seen.join(held)):
        figures = {"old_accuracy_before": old_images.before, "old_accuracy_after": old_images.after}
        by = [
            count(len(seen), "val image") if len(seen) else "",
            f"stored features of {count(len(held), 'image')}" if len(held) else "",
        ]
        parts.append(f"{old_images.summary(made.classes)}, on {' and '.join(filter(None, by))}")
    if unknown := old - len(np.unique(old_images.labels)):
        classes = count(unknown, "class", "classes")
        parts.append(f"{classes} without images: not measured")
    new = pairs.select(labels >= old)
    if len(new):
        same = float((new.ours.argmax(1) == new.theirs[:, :old].argmax(1)).mean())
        figures |= {"new_accuracy": new.after, "old_agreement": same}
        parts.append(
            f"new classes: accuracy {new.after:.3f}; on their images the most likely old class is "
            f"the same as before for {100 * same:.0f} %"
        )
    return Forgetting(figures, f"old classes: {'; '.join(parts)}")


@dataclass(frozen=True)
class _LogitPairs:
    """Labels of images, int64 (n,), and the logits of the old and the new model."""

    labels: NDArray[np.int64]
    ours: Logits
    theirs: Logits

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, chosen: NDArray[np.bool_]) -> Self:
        return type(self)(self.labels[chosen], self.ours[chosen], self.theirs[chosen])

    def join(self, other: Self) -> Self:
        labels = np.concatenate([self.labels, other.labels])
        ours, theirs = (self.ours, other.ours), (self.theirs, other.theirs)
        return type(self)(labels, np.concatenate(ours), np.concatenate(theirs))

    @property
    def before(self) -> float:
        return float(self._right(self.ours).mean())

    @property
    def after(self) -> float:
        return float(self._right(self.theirs).mean())

    def summary(self, classes: tuple[str, ...]) -> str:
        """Accuracies in words, and the classes that lost most."""
        recalls = {
            label: (
                self.select(self.labels == label).before,
                self.select(self.labels == label).after,
            )
            for label in np.unique(self.labels).tolist()
        }
        lost = {label: then - now for label, (then, now) in recalls.items() if then > now}
        worst = sorted(lost, key=lost.__getitem__, reverse=True)[:_SHOWN]
        named = ", ".join(
            f"{classes[i]!r} {recalls[i][0]:.2f} to {recalls[i][1]:.2f}" for i in worst
        )
        words = f"accuracy {self.before:.3f} before, {self.after:.3f} after"
        return f"{words} (largest losses: {named})" if named else words

    def _right(self, logits: Logits) -> NDArray[np.bool_]:
        return np.asarray(logits.argmax(1) == self.labels)


def _held(made: Classifier, before: Classifier, seen: NDArray[np.int64]) -> _LogitPairs:
    """Logits of both heads for the stored features of old classes without val images."""
    old, new = len(before.classes), len(made.classes)
    statistics = before.statistics
    bodies = [digest_weights(backbone(one.module())) for one in (before, made)]
    if statistics is None or bodies[0] != bodies[1]:
        nothing = (np.empty((0, classes), np.float32) for classes in (old, new))
        return _LogitPairs(np.empty(0, np.int64), *nothing)
    chosen = ~np.isin(statistics.held_labels, seen)
    features = torch.from_numpy(statistics.held[chosen])
    with torch.inference_mode():
        ours, theirs = (head(one.module())(features).numpy() for one in (before, made))
    return _LogitPairs(statistics.held_labels[chosen], ours, theirs)
