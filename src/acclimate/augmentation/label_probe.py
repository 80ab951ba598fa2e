"""Images, their copies, and the probes that judge whether a copy still shows its label."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.linalg import solve

from acclimate.augmentation.crops import crop
from acclimate.augmentation.operations import OPERATIONS, flip_y
from acclimate.augmentation.policy import jitter
from acclimate.context import Context, usable_cores
from acclimate.data.dataset import Dataset, balanced
from acclimate.data.images.contract import InputContract, Pixels
from acclimate.data.images.decode import read_image
from acclimate.data.images.fast_resize import mirrored
from acclimate.data.images.threads import image_threads
from acclimate.features.extract import load_backbone
from acclimate.features.store import Features
from acclimate.models.classifier import Classifier

_BATCH = 64
_FOLDS = 4
_FAR = 5.0
"""Standardized features beyond this are cut off: copies can lie far from what was fitted."""
FLIPS: dict[str, Callable[[Pixels], Pixels]] = {
    "horizontal_flip": mirrored,
    "vertical_flip": flip_y,
}
"""uint8 (S, S, 3) to the same; they have one strength."""
Hits = NDArray[np.bool_]
"""(n,): which of the judged images a probe names right."""
_Kernel = NDArray[np.float32]


@dataclass(frozen=True)
class Answers:
    """What probes say of each judged image: whether it is named right.

    Attributes:
        plain: The image as it is, by a probe that learnt from plain images.
        copies: Its copy, by the same probe.
        learnt: Its copy, by a probe that learnt from copies of other images as well.
    """

    plain: Hits
    copies: Hits
    learnt: Hits


class Judge:
    """Some images, each judged by probes that learnt from the others.

    The probes are ridge regressions on one column a class, solved among the images: no dimension
    of the features enters but in products, so that one question costs milliseconds beside the
    pass of the backbone.

    Args:
        classifier: Whose backbone gives the features.
        dataset: Cleaned and split; val images come first, then training images.
        most: How many images at most.
        context: The run; its seed chooses the images and draws the copies.
    """

    def __init__(
        self, classifier: Classifier, dataset: Dataset, most: int, context: Context
    ) -> None:
        self.context, self.contract = context, classifier.contract
        rng = np.random.default_rng(context.seed_for("augment", "images"))
        val = balanced(dataset, dataset.rows("val"), most, rng)
        rows = np.sort(np.concatenate([val, _others(dataset, most - len(val), rng)]))
        self.labels = dataset.labels[rows]
        self._wanted = np.eye(len(dataset.classes), dtype=np.float32)[self.labels]
        self._part = _stratified(self.labels, rng)
        self._infer = load_backbone(classifier, context)
        self._pool = image_threads("augment", usable_cores())
        at_least = round(1.5 * self.contract.image_size)
        paths = [dataset.path(int(row)) for row in rows]
        self.images = list(self._pool.map(lambda path: _small(path, at_least), paths))

    def close(self) -> None:
        """Ends the threads that make copies."""
        self._pool.shutdown()

    @cached_property
    def straight(self) -> list[Pixels]:
        """The images as evaluation sees them: uint8, (S, S, 3) each."""
        return [self.contract.fit(image) for image in self.images]

    def ask(self, operation: str, strength: float) -> Answers:
        """What the probes say of copies of the images.

        Args:
            operation: As `copy_of` takes it.
            strength: In [0, 1].

        Returns:
            For each image, always in the same order.
        """
        plain, kernel = self._plain
        copies = self._features(lambda index: self._copy(index, operation, strength))
        across, among = copies @ plain.T, copies @ copies.T
        found = np.empty((3, len(self.labels)), np.int64)
        for fold in range(_FOLDS):
            seen, asked = self._part != fold, self._part == fold
            first = _fitted(kernel[np.ix_(seen, seen)], self._wanted[seen])
            both = np.block(
                [
                    [kernel[np.ix_(seen, seen)], across[np.ix_(seen, seen)].T],
                    [across[np.ix_(seen, seen)], among[np.ix_(seen, seen)]],
                ]
            )
            second = _fitted(both, np.tile(self._wanted[seen], (2, 1)))
            moved = np.hstack([across[np.ix_(asked, seen)], among[np.ix_(asked, seen)]])
            found[0, asked] = first(kernel[np.ix_(asked, seen)])
            found[1, asked] = first(across[np.ix_(asked, seen)])
            found[2, asked] = second(moved)
        return Answers(*(found == self.labels))

    def _copy(self, index: int, operation: str, strength: float) -> Pixels:
        seed = self.context.seed_for("augment", operation, strength, index)
        rng = np.random.default_rng(seed)
        return copy_of(self.images[index], self.contract, operation, strength, rng)

    @cached_property
    def _scale(self) -> tuple[Features, Features, Features]:
        """Features of the images as they come, their mean and their spread."""
        raw = self._pass(self.straight.__getitem__)
        return raw, raw.mean(0), raw.std(0) + np.float32(1e-6)

    @cached_property
    def _plain(self) -> tuple[Features, _Kernel]:
        """Standardized features of the images, and their products."""
        plain = self._standardized(self._scale[0])
        return plain, plain @ plain.T

    def _features(self, picture: Callable[[int], Pixels]) -> Features:
        return self._standardized(self._pass(picture))

    def _standardized(self, features: Features) -> Features:
        """So scaled that an image's product with itself is about 1."""
        _, mean, std = self._scale
        far = np.clip((features - mean) / std, -_FAR, _FAR)
        return np.asarray(far / np.sqrt(features.shape[1]), np.float32)

    def _pass(self, picture: Callable[[int], Pixels]) -> Features:
        found = []
        for start in range(0, len(self.images), _BATCH):
            indices = range(start, min(start + _BATCH, len(self.images)))
            found.append(self._infer(np.stack(list(self._pool.map(picture, indices)))))
        return np.concatenate(found)


def _fitted(kernel: _Kernel, wanted: NDArray[np.float32]) -> Callable[[_Kernel], NDArray[np.int64]]:
    """A probe: products with what it learnt from, (m, n), to class ids, (m,).

    The penalty is an image's product with itself: about the inverse strength of 1e-2 that most
    data sets choose for the probe.
    """
    mean = wanted.mean(0)
    penalized = kernel + np.eye(len(kernel), dtype=np.float32)
    weights = solve(penalized, wanted - mean, assume_a="pos", check_finite=False)
    return lambda products: np.asarray((products @ weights + mean).argmax(1), np.int64)


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
    pixels = contract.fit(image)
    if operation in FLIPS:
        return FLIPS[operation](pixels)
    if operation == "jitter":
        return jitter(pixels, strength, rng)
    return OPERATIONS[operation](pixels, strength, rng)


def _others(dataset: Dataset, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Training images, as many as are wanted beside those of val."""
    train = dataset.rows("train")
    return balanced(dataset, train, most, rng) if most > 0 else train[:0]


def _small(path: Path, at_least: int) -> Image.Image:
    """An image no larger than crops need: hundreds of them are held at once."""
    image = read_image(path, at_least=at_least)
    factor = at_least / min(image.size)
    if factor >= 1:
        return image
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def _stratified(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """The fold of each image, the classes spread evenly over the folds."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    part = np.empty(len(labels), np.int64)
    part[order] = np.arange(len(labels)) % _FOLDS
    return part
