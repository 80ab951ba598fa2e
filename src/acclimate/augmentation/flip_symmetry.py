"""Detects whether flipped images can be distinguished from original ones, which rules out a flip.

Source: Lin et al. 2020, "Visual Chirality", arXiv 2006.09512: a classifier that separates flipped
images from original ones shows that flipping changes the data distribution. Accuracy does not show
it: networks pretrained with flips give a 2 and its mirror image the same features (scanned digits
here: accuracy 0.867 on the originals, 0.859 mirrored). The paper uses a deep network. Ours is a
linear classifier on gradient histograms, one per class with a common part. It needs a few dozen
images and a few milliseconds.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from acclimate.data.images.contract import Pixels

_SIDE, _CELLS, _BINS = 64, 8, 6
_FOLDS = 5
_COMMON = 0.3
"""Weight of what all classes share (light from one side) relative to what each class has alone."""


def flips_detected(
    images: list[Pixels],
    labels: NDArray[np.int64],
    flip: Callable[[Pixels], Pixels],
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Which images a cross-validated classifier distinguishes from their flipped copies.

    About half of them if the classes look the same both ways, since then there is nothing to learn.

    Args:
        images: uint8, (S, S, 3) each.
        labels: int64, (n,).
        flip: uint8 (S, S, 3) to the same; applied twice, it gives the original.
        rng: Samples the folds.

    Returns:
        bool, (n,).
    """
    change = np.stack([gradient_histograms(i) - gradient_histograms(flip(i)) for i in images])
    # The copy's difference is the negative of the image's, so a classifier without bias suffices.
    gram = change @ change.T
    gram /= np.diag(gram).mean() + 1e-9
    gram *= _COMMON + (labels[:, None] == labels[None, :])
    fold = rng.permutation(len(images)) % _FOLDS
    detected = np.zeros(len(images), bool)
    for number in range(_FOLDS):
        train, test = fold != number, fold == number
        kernel = gram[np.ix_(train, train)] + np.eye(int(train.sum()))
        weights = np.linalg.solve(kernel, np.ones(len(kernel)))
        score = gram[np.ix_(test, train)] @ weights
        # An image that equals its mirror image counts as a coin toss.
        coin = rng.random(len(score)) < 0.5
        detected[test] = np.where(np.abs(score) < 1e-9, coin, score > 0)
    return detected


def gradient_histograms(image: Pixels) -> NDArray[np.float32]:
    """Histograms of oriented gradients (Dalal and Triggs 2005), which ignore color.

    Args:
        image: uint8, (S, S, 3).

    Returns:
        float32, (8 * 8 * 6,), of length 1 (0 for an image of one color).
    """
    small = Image.fromarray(image).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    dy, dx = np.gradient(np.asarray(small, np.float32))
    magnitude = np.hypot(dx, dy)
    direction = (np.arctan2(dy, dx) % np.pi) / np.pi * _BINS
    lower = np.floor(direction)
    share = direction - lower
    bin_ = lower.astype(np.int64) % _BINS
    rows, columns = np.indices(small.size)
    edges = np.zeros((_BINS, _SIDE, _SIDE), np.float32)
    edges[bin_, rows, columns] = magnitude * (1 - share)
    edges[(bin_ + 1) % _BINS, rows, columns] += magnitude * share
    cell = _SIDE // _CELLS
    summed = edges.reshape(_BINS, _CELLS, cell, _CELLS, cell).sum((2, 4)).ravel()
    rooted = np.sqrt(summed)
    return np.asarray(rooted / (np.linalg.norm(rooted) + 1e-9), np.float32)
