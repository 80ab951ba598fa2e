"""How many labels are wrong, and from which score on they are worth flagging.

Out-of-fold predictions do not depend on the image's own label. So the score of a wrong label can be
simulated: an image is given another label, and is scored with the predictions that it has.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float32]
Scores = NDArray[np.float64]
Score = Callable[[Labels, Probabilities], Scores]
"""Labels and their predictions to scores; 0 for labels that are not flagged at any threshold."""

HIGHEST_THRESHOLD = 0.9
"""With few wrong labels flags are as precise as they get there: from 0.49 (CIFAR-10, enlarged from
32 px) to 0.82 (photos) with 5 % of the labels swapped."""
_RIGHT_PER_WRONG = 1.5
"""More flags are worth it while they find a wrong label per so many right ones. At 39 % noise on
CIFAR-10, 1 finds 0.72 of the wrong labels at a precision of 0.83, and 1.5 finds 0.80 at 0.77."""
_SUREST, _MIN_SUREST = 0.2, 10
"""Share and least number of the images of each predicted class whose labels count as evidence."""
_DRAWS = 8_000
"""Simulated wrong labels."""
_MIN_SHARE, _MIN_FLAGS = 0.005, 10
"""The fewest flags, as a share of all labels and as a number, that say how many are wrong."""


@dataclass(frozen=True)
class Precision:
    """Bounds of a share, in [0, 1]."""

    low: float
    high: float


@dataclass(frozen=True)
class LabelNoise:
    """How many labels are wrong, and what a threshold would find.

    Attributes:
        labels: Number of labels.
        fewest: Lower estimate of the number of wrong ones.
        most: Upper estimate.
        threshold: Score from which labels are worth flagging.
        scores: float64, (N,), ascending: of the labels.
        like_any: float64, ascending: of labels swapped to any other class.
        like_surest: float64, ascending: of labels swapped as those of the surest images are.
    """

    labels: int
    fewest: float
    most: float
    threshold: float
    scores: Scores
    like_any: Scores
    like_surest: Scores

    def precision(self, threshold: float) -> Precision:
        """The share of the labels with this score or more that is expected to be wrong."""
        flags = max(1e-9, self.labels * float(_share(self.scores, threshold)))
        one = self.fewest * float(_share(self.like_any, threshold)) / flags
        other = self.most * float(_share(self.like_surest, threshold)) / flags
        return Precision(min(one, other, 1.0), min(max(one, other), 1.0))


def estimate_noise(
    labels: Labels, probabilities: Probabilities, score: Score, rng: np.random.Generator
) -> LabelNoise:
    """Estimates the number of wrong labels, and chooses the threshold by it.

    The upper estimate: where the classifiers are surest of a class, other labels are wrong. It is
    too high if they are sure and mistaken. The lower estimate: the highest scores are wrong labels,
    and simulated wrong labels show which share of all wrong ones scores so high (the mixture
    proportion of Blanchard, Lee and Scott 2010, "Semi-Supervised Novelty Detection", JMLR 11). It
    is too low if labels were only mistaken for similar classes. The counts of the confident joint
    are not used, since they include the classifiers' own mistakes: 225 in 2,000 images of CIFAR-10
    with their original labels.

    Args:
        labels: int64, (N,): at least one of each class.
        probabilities: float32, (N, C), out of fold.
        score: Of labels and predictions.
        rng: Chooses images and labels.

    Returns:
        The estimate.
    """
    classes = probabilities.shape[1]
    seen, rate = _labels_of_surest(labels, probabilities)
    confusion = np.where(np.eye(classes, dtype=bool), 0, seen)
    # As much again is spread evenly, since a few images do not show every confusion.
    confusion = confusion + max(1.0, confusion.sum() / 2) / classes**2
    scores = np.sort(score(labels, probabilities))
    like_any = _simulated(np.ones((classes, classes)), labels, probabilities, score, rng)
    like_surest = _simulated(confusion, labels, probabilities, score, rng)
    most = rate * len(labels)
    tried = scores[::-1]
    flags = np.arange(1, len(labels) + 1)
    enough = (flags >= max(_MIN_FLAGS, _MIN_SHARE * len(labels))) & (tried > 0)
    shares = np.maximum(_share(like_any, tried), 1e-9)
    fewest = min(float((flags / shares)[enough].min(initial=np.inf)), most)
    gain = (1 + _RIGHT_PER_WRONG) * most * _share(like_surest, tried) - flags
    gain[(tried <= 0) | (flags > max(most, 1))] = -np.inf
    threshold = min(float(tried[gain.argmax()]), HIGHEST_THRESHOLD)
    return LabelNoise(len(labels), fewest, most, threshold, scores, like_any, like_surest)


def _share(ascending: Scores, threshold: float | Scores) -> NDArray[np.float64]:
    """The share of scores that reach a threshold, for each threshold."""
    return 1 - np.searchsorted(ascending, threshold) / len(ascending)


def _labels_of_surest(
    labels: Labels, probabilities: Probabilities
) -> tuple[NDArray[np.float64], float]:
    """(C, C): the labels of the surest images of each predicted class, and the rate of others."""
    predicted, classes = probabilities.argmax(1), probabilities.shape[1]
    seen, wrong = np.zeros((classes, classes)), 0.0
    for name in np.unique(predicted):
        members = np.flatnonzero(predicted == name)
        most = max(_MIN_SUREST, round(_SUREST * len(members)))
        surest = members[np.argsort(-probabilities[members, name], kind="stable")[:most]]
        seen[name] = np.bincount(labels[surest], minlength=classes)
        wrong += len(members) * float((labels[surest] != name).mean())
    return seen, wrong / len(labels)


def _simulated(
    confusion: NDArray[np.float64],
    labels: Labels,
    probabilities: Probabilities,
    score: Score,
    rng: np.random.Generator,
) -> Scores:
    """Scores of wrong labels, ascending: (class, other class) drawn by their confusion."""
    weights = np.where(np.eye(len(confusion), dtype=bool), 0, confusion)
    of_class = weights.sum(1) / np.bincount(labels, minlength=len(weights))
    chance = of_class[labels]
    images = rng.choice(len(labels), _DRAWS, p=chance / chance.sum())
    steps = np.cumsum(weights / weights.sum(1, keepdims=True), 1)
    swapped = (rng.random(_DRAWS)[:, None] >= steps[labels[images]]).sum(1)
    swapped = np.minimum(swapped, len(weights) - 1)
    return np.sort(score(swapped, probabilities[images]))
