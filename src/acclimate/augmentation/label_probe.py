"""Linear probes that measure whether an augmented copy still shows its label."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.linalg import solve

from acclimate.augmentation.crops import random_crop
from acclimate.augmentation.operations import OPERATIONS, vertical_flip
from acclimate.augmentation.policy import jitter
from acclimate.context import Context
from acclimate.cpu import usable_cores
from acclimate.data.blocks import blocks
from acclimate.data.dataset import Dataset, balanced_sample
from acclimate.data.images.contract import InputContract, Pixels
from acclimate.data.images.decode import read_image
from acclimate.data.images.fast_resize import flip_horizontal
from acclimate.data.images.samples import PixelRules
from acclimate.data.images.threads import image_threads
from acclimate.features.extract import in_range_of, load_backbone
from acclimate.features.store import Features
from acclimate.models.classifier import Classifier

_BATCH = 64
_FOLDS = 4
_CLIP = 5.0
"""Standardized features are clipped here: copies can lie far from the images that were fitted."""
FLIPS: dict[str, Callable[[Pixels], Pixels]] = {
    "horizontal_flip": flip_horizontal,
    "vertical_flip": vertical_flip,
}
"""uint8 (S, S, 3) to the same; flips have one strength."""
Hits = NDArray[np.bool_]
"""(n,): which images a probe classifies correctly."""
_Kernel = NDArray[np.float32]


@dataclass(frozen=True)
class ProbeHits:
    """Which images and copies the probes classify correctly.

    Attributes:
        plain: The image itself, by a probe fitted on plain images.
        copies: Its copy, by the same probe.
        learnt: Its copy, by a probe fitted on copies of other images as well.
        plain_learnt: The image itself, by that probe.
    """

    plain: Hits
    copies: Hits
    learnt: Hits
    plain_learnt: Hits


class LabelProbe:
    """A sample of images, each classified by probes that were fitted on the others.

    The probes are ridge regressions with one output per class, solved in the space of images
    (dual form). So a fit costs milliseconds, next to the backbone's pass over the copies.

    Args:
        classifier: Its backbone gives the features.
        dataset: Cleaned and split; val images are taken first, then training images.
        max_images: Maximum number of images.
        context: The run; its seed chooses the images and the augmentations.
    """

    def __init__(
        self, classifier: Classifier, dataset: Dataset, max_images: int, context: Context
    ) -> None:
        classifier = in_range_of(dataset, classifier)
        self.context, self.contract = context, classifier.contract
        rng = np.random.default_rng(context.seed_for("augment", "images"))
        val = balanced_sample(dataset, dataset.rows("val"), max_images, rng)
        rows = np.sort(np.concatenate([val, _train_rows(dataset, max_images - len(val), rng)]))
        self.labels = dataset.labels[rows]
        self._targets = np.eye(len(dataset.classes), dtype=np.float32)[self.labels]
        self._fold = _stratified(self.labels, rng)
        self._infer = load_backbone(classifier, context)
        self._pool = image_threads("augment", usable_cores())
        min_side, rules = round(1.5 * self.contract.image_size), self.contract.rules
        paths = [dataset.path(int(row)) for row in rows]
        self.images = list(self._pool.map(lambda path: _small(path, min_side, rules), paths))

    def close(self) -> None:
        """Ends the threads that augment images."""
        self._pool.shutdown()

    @cached_property
    def plain_images(self) -> list[Pixels]:
        """The images as in evaluation: uint8, (S, S, 3) each."""
        return [self.contract.fit(image) for image in self.images]

    def measure(self, operation: str, strength: float) -> ProbeHits:
        """Classifies the images and augmented copies of them.

        Args:
            operation: As for `augmented_copy`.
            strength: In [0, 1].

        Returns:
            The hits, always in the same order of images.
        """
        plain, kernel = self._plain
        copies = self._features(lambda index: self._copy(index, operation, strength))
        across, among = copies @ plain.T, copies @ copies.T
        found = np.empty((4, len(self.labels)), np.int64)
        for fold in range(_FOLDS):
            train, test = self._fold != fold, self._fold == fold
            on_plain = _fit(kernel[np.ix_(train, train)], self._targets[train])
            both = np.block(
                [
                    [kernel[np.ix_(train, train)], across[np.ix_(train, train)].T],
                    [across[np.ix_(train, train)], among[np.ix_(train, train)]],
                ]
            )
            on_both = _fit(both, np.tile(self._targets[train], (2, 1)))
            plain_rows, copy_rows = kernel[np.ix_(test, train)], across[np.ix_(test, train)]
            found[0, test] = on_plain(plain_rows)
            found[1, test] = on_plain(copy_rows)
            found[2, test] = on_both(np.hstack([copy_rows, among[np.ix_(test, train)]]))
            found[3, test] = on_both(np.hstack([plain_rows, across[np.ix_(train, test)].T]))
        return ProbeHits(*(found == self.labels))

    def _copy(self, index: int, operation: str, strength: float) -> Pixels:
        seed = self.context.seed_for("augment", operation, strength, index)
        rng = np.random.default_rng(seed)
        return augmented_copy(self.images[index], self.contract, operation, strength, rng)

    @cached_property
    def _scale(self) -> tuple[Features, Features, Features]:
        """Raw features of the images, their mean and their standard deviation."""
        raw = self._extract(self.plain_images.__getitem__)
        return raw, raw.mean(0), raw.std(0) + np.float32(1e-6)

    @cached_property
    def _plain(self) -> tuple[Features, _Kernel]:
        """Standardized features of the images, and their Gram matrix."""
        plain = self._standardize(self._scale[0])
        return plain, plain @ plain.T

    def _features(self, image_at: Callable[[int], Pixels]) -> Features:
        return self._standardize(self._extract(image_at))

    def _standardize(self, features: Features) -> Features:
        """Scaled so that an image's dot product with itself is about 1."""
        _, mean, std = self._scale
        clipped = np.clip((features - mean) / std, -_CLIP, _CLIP)
        return np.asarray(clipped / np.sqrt(features.shape[1]), np.float32)

    def _extract(self, image_at: Callable[[int], Pixels]) -> Features:
        found = []
        for block in blocks(len(self.images), _BATCH):
            indices = range(block.start, block.stop)
            found.append(self._infer(np.stack(list(self._pool.map(image_at, indices)))))
        return np.concatenate(found)


def _fit(kernel: _Kernel, targets: NDArray[np.float32]) -> Callable[[_Kernel], NDArray[np.int64]]:
    """A probe: dot products with its training images, (m, n), to class ids, (m,).

    The penalty equals an image's dot product with itself: about the inverse strength of 1e-2 that
    the probe stage chooses for most data sets.
    """
    mean = targets.mean(0)
    penalized = kernel + np.eye(len(kernel), dtype=np.float32)
    weights = solve(penalized, targets - mean, assume_a="pos", check_finite=False)
    return lambda products: np.asarray((products @ weights + mean).argmax(1), np.int64)


def augmented_copy(
    image: Image.Image,
    contract: InputContract,
    operation: str,
    strength: float,
    rng: np.random.Generator,
) -> Pixels:
    """One augmented copy of an image, at the network's input size.

    Args:
        image: RGB, any size.
        contract: Gives the size.
        operation: "crop", "horizontal_flip", "vertical_flip", "jitter", or a key of `OPERATIONS`.
        strength: In [0, 1]; for a crop, the part of the area that may be cut off.
        rng: Samples everything random.

    Returns:
        uint8, (S, S, 3).
    """
    if operation == "crop":
        return random_crop(image, contract, 1 - strength, rng)
    pixels = contract.fit(image)
    if operation in FLIPS:
        return FLIPS[operation](pixels)
    if operation == "jitter":
        return jitter(pixels, strength, rng)
    return OPERATIONS[operation](pixels, strength, rng)


def _train_rows(dataset: Dataset, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Training images that fill up the sample."""
    train = dataset.rows("train")
    return balanced_sample(dataset, train, number, rng) if number > 0 else train[:0]


def _small(path: Path, min_side: int, rules: PixelRules) -> Image.Image:
    """An image no larger than crops need, since hundreds of them are in memory at once."""
    image = read_image(path, min_side=min_side, rules=rules)
    factor = min_side / min(image.size)
    if factor >= 1:
        return image
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def _stratified(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """The fold of each image, stratified by class."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), np.int64)
    fold[order] = np.arange(len(labels)) % _FOLDS
    return fold
