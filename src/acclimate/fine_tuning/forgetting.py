"""What new classes cost the old ones."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.errors import count
from acclimate.models.classifier import Classifier, digest_weights
from acclimate.models.runtime import Logits, predict_logits
from acclimate.models.structure import backbone, head

_SHOWN = 3


@dataclass(frozen=True)
class Forgetting:
    """What a classifier lost.

    Attributes:
        figures: For the card: `old_accuracy_before` and `old_accuracy_after` where they can be
            judged; `new_accuracy` and `old_agreement` (how often the likeliest old class is the
            same) on new classes' images.
        told: In words, without a full stop.
    """

    figures: Mapping[str, float]
    told: str


def with_forgetting_report(
    made: Classifier, before: Classifier, dataset: Dataset, context: Context
) -> Classifier:
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
    context.progress.info(found.told)
    step = made.card.steps[-1]
    note = f"{found.told[0].upper()}{found.told[1:]}."
    step = replace(step, figures={**step.figures, **found.figures}, notes=(*step.notes, note))
    card = replace(made.card, parent=before.digest, steps=(*made.card.steps[:-1], step))
    return replace(made, card=card)


def forgetting(
    made: Classifier, before: Classifier, dataset: Dataset, context: Context
) -> Forgetting:
    """Sets a classifier of more classes against the one that it was made from.

    Old classes that val has images of are judged by these; the others, where the backbone was
    left alone, by the features that the old model holds of the val images it was chosen by.

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
    ours, theirs = (
        predict_logits(one, dataset, rows, context, task="old classes") for one in (before, made)
    )
    said = _Said(labels, ours, theirs)
    seen, held = said.of((labels >= 0) & (labels < old)), _held(made, before, np.unique(labels))
    figures: dict[str, float] = {}
    parts = []
    if len(judged := seen.and_of(held)):
        figures = {"old_accuracy_before": judged.before, "old_accuracy_after": judged.after}
        by = [
            count(len(seen), "val image") if len(seen) else "",
            f"the held features of {count(len(held), 'image')}" if len(held) else "",
        ]
        parts.append(f"{judged.told(made.classes)}, on {' and '.join(filter(None, by))}")
    if unknown := old - len(np.unique(judged.labels)):
        classes = count(unknown, "class", "classes")
        parts.append(f"no image of {classes} was at hand: what it cost there is not known")
    new = said.of(labels >= old)
    if len(new):
        same = float((new.ours.argmax(1) == new.theirs[:, :old].argmax(1)).mean())
        figures |= {"new_accuracy": new.after, "old_agreement": same}
        parts.append(
            f"new ones: accuracy {new.after:.3f}; of the old ones the likeliest is the same as "
            f"before for {100 * same:.0f} % of their images"
        )
    return Forgetting(figures, f"old classes: {'; '.join(parts)}")


@dataclass(frozen=True)
class _Said:
    """Labels of some images, int64 (n,), and both models' logits of them."""

    labels: NDArray[np.int64]
    ours: Logits
    theirs: Logits

    def __len__(self) -> int:
        return len(self.labels)

    def of(self, chosen: NDArray[np.bool_]) -> Self:
        return type(self)(self.labels[chosen], self.ours[chosen], self.theirs[chosen])

    def and_of(self, other: Self) -> Self:
        labels = np.concatenate([self.labels, other.labels])
        ours, theirs = (self.ours, other.ours), (self.theirs, other.theirs)
        return type(self)(labels, np.concatenate(ours), np.concatenate(theirs))

    @property
    def before(self) -> float:
        return float(self._right(self.ours).mean())

    @property
    def after(self) -> float:
        return float(self._right(self.theirs).mean())

    def told(self, classes: tuple[str, ...]) -> str:
        """Accuracies in words, and the classes that lost most."""
        recalls = {
            label: (self.of(self.labels == label).before, self.of(self.labels == label).after)
            for label in np.unique(self.labels).tolist()
        }
        lost = {label: then - now for label, (then, now) in recalls.items() if then > now}
        worst = sorted(lost, key=lost.__getitem__, reverse=True)[:_SHOWN]
        named = ", ".join(
            f"{classes[i]!r} {recalls[i][0]:.2f} to {recalls[i][1]:.2f}" for i in worst
        )
        words = f"accuracy {self.before:.3f} before, {self.after:.3f} after"
        return f"{words} (most lost: {named})" if named else words

    def _right(self, logits: Logits) -> NDArray[np.bool_]:
        return np.asarray(logits.argmax(1) == self.labels)


def _held(made: Classifier, before: Classifier, seen: NDArray[np.int64]) -> _Said:
    """What both heads say of the features that the old model holds, of classes not seen."""
    old, new = len(before.classes), len(made.classes)
    statistics = before.statistics
    bodies = [digest_weights(backbone(one.module())) for one in (before, made)]
    if statistics is None or bodies[0] != bodies[1]:
        nothing = (np.empty((0, classes), np.float32) for classes in (old, new))
        return _Said(np.empty(0, np.int64), *nothing)
    chosen = ~np.isin(statistics.held_labels, seen)
    features = torch.from_numpy(statistics.held[chosen])
    with torch.inference_mode():
        ours, theirs = (head(one.module())(features).numpy() for one in (before, made))
    return _Said(statistics.held_labels[chosen], ours, theirs)
