"""Heads that know an image by its nearness to known ones: kernel ridge regression on features.

Source: least squares on one-hot labels with a Gaussian kernel (Rifkin, Yeo and Poggio 2003,
"Regularized Least-Squares Classification"); of many images some are landmarks that the others are
described by (Williams and Seeger 2001, "Using the Nyström Method to Speed Up Kernel Machines").
Squared loss lets no single label pull hard, and many heads, each without a part of the images, cost
hardly more than one.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from acclimate.features.fit_head import Examples
from acclimate.features.store import Features

LANDMARKS = 3_000
"""72 MB of products among them; up to so many images the answer is exact. Of 6,321 images, 1,000,
2,000 and 4,000 landmarks gave an average precision of 0.78, 0.83 and 0.84."""
_SHARPNESS = 2.0
"""The kernel is exp(-2) at the median distance: on four data sets 1 was as good, and 4 worse."""
_NOISE = 0.3
"""Variance of a label that the kernel does not explain: 0.1 to 1 made hardly a difference."""
_MIDDLE = 0.3
"""Weight of what the network knew halfway, beside its last features: 0.1 was 0.01 worse."""
_JITTER = 1e-3
"""Keeps copies among landmarks apart; small beside the noise."""
_BLOCK = 4_096
"""Images compared at once: 49 MB of nearness."""
_LEAST = 1e-3
"""Median distance below which images are as good as equal: nearer ones differ by rounding."""


def directions(features: Features) -> Features:
    """Unit vectors of the square roots: one loud channel does not outweigh all others.

    Args:
        features: float32, (N, D); signs are kept, though most networks give none.

    Returns:
        float32, (N, D), rows of length 1.
    """
    roots = np.sign(features) * np.sqrt(np.abs(features))
    length = np.maximum(np.linalg.norm(roots, axis=1, keepdims=True), 1e-12)
    return np.asarray(roots / length, np.float32)


def _placed(
    features: Features, size: int, mean: NDArray[np.float32], deviation: NDArray[np.float32]
) -> Features:
    """float32, (N, D + E): unit vectors of the last features and shorter ones of the middle."""
    middle = (features[:, size:] - mean) / deviation
    length = np.maximum(np.linalg.norm(middle, axis=1, keepdims=True), 1e-12)
    return np.hstack([directions(features[:, :size]), _MIDDLE**0.5 * middle / length])


def _squared_length(places: Features, size: int) -> float:
    return 1 + _MIDDLE if places.shape[1] > size else 1.0


@dataclass(frozen=True)
class Landmarks:
    """Images that others are described by: by the last features, and a little by the middle ones.

    Attributes:
        places: float32, (M, D): the landmarks as `_placed` puts them.
        size: How many of an image's features are of the last layer; those of the middle follow.
        mean: float32, of each middle feature.
        deviation: float32, of each middle feature.
        scale: What half a squared distance is multiplied by.
    """

    places: Features
    size: int
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    scale: float

    @classmethod
    def of(cls, features: Features, size: int) -> "Landmarks":
        """Some images as landmarks.

        Args:
            features: float32, (M, D + E), M at least 1.
            size: D, of the last layer; the E of the middle, perhaps none, are standardized.

        Returns:
            The landmarks; their median distance sets the scale.
        """
        middle = features[:, size:]
        mean, deviation = middle.mean(0), middle.std(0) + 1e-6
        places = _placed(features, size, mean, deviation)
        distance = _squared_length(places, size) - places @ places.T
        apart = distance[np.triu_indices(len(places), 1)]
        usual = float(np.median(apart)) if len(apart) else 1.0
        return cls(places, size, mean, deviation, _SHARPNESS / max(usual, _LEAST))

    def nearness(self, features: Features) -> Features:
        """float32, (n, M), in (0, 1]: how near some images are to the landmarks."""
        return self._kernel(_placed(features, self.size, self.mean, self.deviation))

    def _kernel(self, places: NDArray[Any]) -> NDArray[Any]:
        away = places @ self.places.T - _squared_length(places, self.size)
        return np.asarray(np.exp(self.scale * away), places.dtype)

    @cached_property
    def root(self) -> Features:
        """float32, (M, M): the lower triangle whose square is their nearness to each other."""
        # Rounded to float32, the products of images that all look the same have no root.
        places = self.places.astype(np.float64)
        among = self._kernel(places)
        among[np.diag_indices(len(among))] += _JITTER
        return np.asarray(np.linalg.cholesky(among), np.float32)


@dataclass(frozen=True)
class KernelHead:
    """A fitted head.

    Attributes:
        landmarks: What images are described by.
        weight: float32, (M, C).
        bias: float32, (C,).
    """

    landmarks: Landmarks
    weight: Features
    bias: NDArray[np.float32]

    def __call__(self, features: Features) -> Features:
        """float32, (n, C): about 1 for an image's class and 0 for others; no probabilities yet."""
        found = np.empty((len(features), len(self.bias)), np.float32)
        for start in range(0, len(features), _BLOCK):
            part = slice(start, start + _BLOCK)
            found[part] = self.landmarks.nearness(features[part]) @ self.weight + self.bias
        return found


def fit_without_each(
    train: Examples,
    part_of: NDArray[np.int64],
    landmarks: Landmarks,
    *,
    parts: int,
    num_classes: int,
) -> list[KernelHead]:
    """One head a part, fitted on all images but that part's.

    Args:
        train: Features and labels.
        part_of: int64, (N,): each image's part, in [0, parts).
        landmarks: Any images; their labels are not looked at.
        parts: How many heads.
        num_classes: C.

    Returns:
        The heads in the order of the parts.
    """
    seen = np.empty((len(train.labels), len(landmarks.places)), np.float32)  # (N, M)
    for start in range(0, len(seen), _BLOCK):
        block = slice(start, start + _BLOCK)
        near = landmarks.nearness(train.features[block])
        seen[block] = solve_triangular(landmarks.root, near.T, lower=True).T
    wanted = np.eye(num_classes, dtype=np.float32)[train.labels]  # (N, C)
    everyone = _Sums.of(seen, wanted)
    heads = []
    for number in range(parts):
        held = part_of == number
        heads.append(_solved(everyone.without(_Sums.of(seen[held], wanted[held])), landmarks))
    return heads


@dataclass(frozen=True)
class _Sums:
    """Sums over images: all that least squares needs of them."""

    count: int
    squares: NDArray[np.float64]
    """(M, M)"""
    products: NDArray[np.float64]
    """(M, C)"""
    seen: NDArray[np.float64]
    """(M,)"""
    wanted: NDArray[np.float64]
    """(C,)"""

    @classmethod
    def of(cls, seen: Features, wanted: Features) -> "_Sums":
        return cls(
            len(seen),
            (seen.T @ seen).astype(np.float64),
            (seen.T @ wanted).astype(np.float64),
            seen.sum(0, dtype=np.float64),
            wanted.sum(0, dtype=np.float64),
        )

    def without(self, other: "_Sums") -> "_Sums":
        return _Sums(
            self.count - other.count,
            self.squares - other.squares,
            self.products - other.products,
            self.seen - other.seen,
            self.wanted - other.wanted,
        )


def _solved(sums: _Sums, landmarks: Landmarks) -> KernelHead:
    """The head with the least squared error: each class's part of the images is its bias."""
    bias = sums.wanted / max(1, sums.count)
    squares = sums.squares.copy()
    squares[np.diag_indices(len(squares))] += _NOISE
    found = cho_solve(
        cho_factor(squares, overwrite_a=True), sums.products - sums.seen[:, None] * bias
    )
    # Folded, so that an image that is judged needs its nearness alone.
    weight = solve_triangular(landmarks.root, found.astype(np.float32), lower=True, trans="T")
    return KernelHead(landmarks, weight, bias.astype(np.float32))
