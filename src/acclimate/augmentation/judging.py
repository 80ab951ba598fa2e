"""Images, their copies and the probes that judge whether a copy still shows its label."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from acclimate.augmentation.operations import OPERATIONS, flip_x, flip_y
from acclimate.augmentation.policy import crop, jitter
from acclimate.context import Context, usable_cores
from acclimate.data.contract import InputContract, Pixels
from acclimate.data.dataset import Dataset, Rows, balanced
from acclimate.data.decode import read_image
from acclimate.features.extract import open_backbone
from acclimate.features.linear import Ridge, Scale, ridge, scale_of
from acclimate.features.store import Features
from acclimate.models.classifier import Classifier

_BATCH = 64
_FEWEST = 100
"""Val images below which the training images judge, out of fold: 100 give +- 4 points at 95 %."""
_FOLDS = 4
Hits = NDArray[np.bool_]
"""(n,): which of the judged images a probe names right."""


@dataclass(frozen=True)
class Answers:
    """What the probes say of each judged image: whether it is named right.

    Attributes:
        plain: The image as it is, by a probe that learnt from plain images.
        copies: Its copy, by the same probe.
        learnt: Its copy, by a probe that learnt from copies as well.
    """

    plain: Hits
    copies: Hits
    learnt: Hits


@dataclass(frozen=True)
class _Fold:
    fit: Rows
    judge: Rows


class Judge:
    """Some of the images, with a probe on their features.

    Args:
        classifier: Whose backbone gives the features.
        dataset: Cleaned and split.
        most: Images that are judged, and that are learnt from, at most.
        context: The run; its seed chooses the images and draws the copies.
    """

    def __init__(
        self, classifier: Classifier, dataset: Dataset, most: int, context: Context
    ) -> None:
        self.context, self.contract = context, classifier.contract
        self.num_classes = len(dataset.classes)
        rng = np.random.default_rng(context.seed_for("augment", "images"))
        train, val = (balanced(dataset, dataset.rows(s), most, rng) for s in ("train", "val"))
        # Few val images could not tell 2 points from none: then training images judge as well.
        small = len(val) < min(_FEWEST, len(train))
        rows = train if small else np.concatenate([train, val])
        self.labels = dataset.labels[rows]
        if small:
            self.folds = _stratified(self.labels, rng)
        else:
            everything = np.arange(len(rows))
            self.folds = [_Fold(everything[: len(train)], everything[len(train) :])]
        self._infer = open_backbone(classifier, context)
        self._pool = ThreadPoolExecutor(usable_cores(), "augment")
        at_least = round(1.5 * self.contract.image_size)
        self.images = list(
            self._pool.map(lambda row: _small(dataset.path(int(row)), at_least), rows)
        )

    def close(self) -> None:
        """Ends the threads that make copies."""
        self._pool.shutdown()

    def straight(self) -> list[Pixels]:
        """All images as evaluation sees them, uint8, (S, S, 3) each; `labels` belong to them."""
        return [self.contract.fit(image) for image in self.images]

    @property
    def size(self) -> int:
        """How many images are judged."""
        return sum(len(fold.judge) for fold in self.folds)

    def ask(self, operation: str, strength: float) -> Answers:
        """What the probes say of copies of the images.

        Args:
            operation: As `copy_of` takes it.
            strength: In [0, 1].

        Returns:
            For each judged image, always in the same order.
        """
        copies = self._features(lambda index: self._copy(index, operation, strength))
        found = [
            self._answers(fold, scale, probe, copies)
            for fold, (scale, probe) in zip(self.folds, self._probes, strict=True)
        ]
        return Answers(*(np.concatenate(hits) for hits in zip(*found, strict=True)))

    def _copy(self, index: int, operation: str, strength: float) -> Pixels:
        seed = self.context.seed_for("augment", operation, strength, index)
        rng = np.random.default_rng(seed)
        return copy_of(self.images[index], self.contract, operation, strength, rng)

    def _answers(
        self, fold: _Fold, scale: Scale, probe: Ridge, copies: Features
    ) -> tuple[Hits, Hits, Hits]:
        truth = self.labels[fold.judge]
        plain, moved = scale(self._plain[fold.judge]), scale(copies[fold.judge])
        both = np.concatenate([scale(self._plain[fold.fit]), scale(copies[fold.fit])])
        second = ridge(both, np.tile(self.labels[fold.fit], 2), self.num_classes)
        return (
            probe.predict(plain) == truth,
            probe.predict(moved) == truth,
            second.predict(moved) == truth,
        )

    @cached_property
    def _plain(self) -> Features:
        return self._features(lambda index: self.contract.fit(self.images[index]))

    @cached_property
    def _probes(self) -> list[tuple[Scale, Ridge]]:
        found = []
        for fold in self.folds:
            scale = scale_of(self._plain[fold.fit])
            head = ridge(scale(self._plain[fold.fit]), self.labels[fold.fit], self.num_classes)
            found.append((scale, head))
        return found

    def _features(self, picture: Callable[[int], Pixels]) -> Features:
        found = []
        for start in range(0, len(self.images), _BATCH):
            indices = range(start, min(start + _BATCH, len(self.images)))
            found.append(self._infer(np.stack(list(self._pool.map(picture, indices)))))
        return np.concatenate(found)


def _small(path: Path, at_least: int) -> Image.Image:
    """An image no larger than crops need: hundreds of them are held at once."""
    image = read_image(path, at_least=at_least)
    factor = at_least / min(image.size)
    if factor >= 1:
        return image
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def copy_of(
    image: Image.Image,
    contract: InputContract,
    operation: str,
    strength: float,
    rng: np.random.Generator,
) -> Pixels:
    """One augmented copy of an image, as the network would see it.

    Args:
        image: RGB, any size.
        contract: Gives the size.
        operation: "crop", "horizontal_flip", "vertical_flip", "jitter", or one of `OPERATIONS`.
        strength: In [0, 1]; of a crop, the part of the area that may be cut off.
        rng: Draws everything random.

    Returns:
        uint8, (S, S, 3).
    """
    if operation == "crop":
        return crop(image, contract, 1 - strength, rng)
    change = {"horizontal_flip": flip_x, "vertical_flip": flip_y}.get(operation)
    pixels = contract.fit(image)
    if change is not None:
        return change(pixels)
    if operation == "jitter":
        return jitter(pixels, strength, rng)
    return OPERATIONS[operation](pixels, strength, rng)


def _stratified(labels: NDArray[np.int64], rng: np.random.Generator) -> list[_Fold]:
    """Each image judged once by what was learnt from the others."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    part = np.empty(len(labels), np.int64)
    part[order] = np.arange(len(labels)) % _FOLDS
    return [_Fold(np.flatnonzero(part != k), np.flatnonzero(part == k)) for k in range(_FOLDS)]
