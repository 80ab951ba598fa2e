"""Whether a mirrored copy can be told from an image of its class: if so, the world is not like it.

Source: Lin et al. 2020, "Visual Chirality", arXiv 2006.09512: what flipping does to a data set is
seen by who tries to tell flipped images from straight ones. Accuracy does not show it: networks
pretrained with mirror images give a 2 and its mirror image the same features (scanned digits here:
0.867 straight, 0.859 mirrored). Theirs is a deep network; ours is a linear rule on outlines, one a
class with a common part, that needs a few dozen images and a few milliseconds.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from acclimate.data.images.contract import Pixels

_SIDE, _CELLS, _BINS = 64, 8, 6
_FOLDS = 5
_COMMON = 0.3
"""Weight of what all classes share (light from one side) beside what each has of its own."""


def told_apart(
    images: list[Pixels],
    labels: NDArray[np.int64],
    flip: Callable[[Pixels], Pixels],
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Which images a rule that learnt from the others tells from their flipped copies.

    Half of them where the classes look the same both ways: then nothing can be learnt.

    Args:
        images: uint8, (S, S, 3) each.
        labels: int64, (n,).
        flip: uint8 (S, S, 3) to the same; twice is nothing.
        rng: Draws the folds.

    Returns:
        bool, (n,).
    """
    turned = np.stack([outlines(image) - outlines(flip(image)) for image in images])
    # The copy's difference is the negative of the image's, so one rule through the origin does.
    gram = turned @ turned.T
    gram /= np.diag(gram).mean() + 1e-9
    gram *= _COMMON + (labels[:, None] == labels[None, :])
    part = rng.permutation(len(images)) % _FOLDS
    told = np.zeros(len(images), bool)
    for fold in range(_FOLDS):
        learnt, asked = part != fold, part == fold
        known = gram[np.ix_(learnt, learnt)] + np.eye(int(learnt.sum()))
        rule = np.linalg.solve(known, np.ones(len(known)))
        score = gram[np.ix_(asked, learnt)] @ rule
        # An image that is its own mirror image says nothing: a coin.
        told[asked] = np.where(np.abs(score) < 1e-9, rng.random(len(score)) < 0.5, score > 0)
    return told


def outlines(image: Pixels) -> NDArray[np.float32]:
    """Where edges run, and in which direction (Dalal and Triggs 2005), whatever their colours.

    Args:
        image: uint8, (S, S, 3).

    Returns:
        float32, (8 * 8 * 6,), of length 1 (0 for an even picture).
    """
    small = Image.fromarray(image).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    rise, run = np.gradient(np.asarray(small, np.float32))
    steepness = np.hypot(run, rise)
    direction = (np.arctan2(rise, run) % np.pi) / np.pi * _BINS
    lower = np.floor(direction)
    share = direction - lower
    here = lower.astype(np.int64) % _BINS
    rows, columns = np.indices(small.size)
    edges = np.zeros((_BINS, _SIDE, _SIDE), np.float32)
    edges[here, rows, columns] = steepness * (1 - share)
    edges[(here + 1) % _BINS, rows, columns] += steepness * share
    cell = _SIDE // _CELLS
    summed = edges.reshape(_BINS, _CELLS, cell, _CELLS, cell).sum((2, 4)).ravel()
    rooted = np.sqrt(summed)
    return np.asarray(rooted / (np.linalg.norm(rooted) + 1e-9), np.float32)
