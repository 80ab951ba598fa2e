"""Kernel ridge regression on features, with one head per cross-validation fold.

Source: least squares on one-hot labels with a Gaussian kernel (Rifkin, Yeo and Poggio 2003,
"Regularized Least-Squares Classification"), with landmarks for many images (Williams and Seeger
2001, "Using the Nyström Method to Speed Up Kernel Machines"). The squared loss limits the influence
of a single wrong label, and the heads of all folds cost hardly more than one.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from acclimate.data.blocks import blocks
from acclimate.features.fit_head import Examples
from acclimate.features.store import Features

LANDMARKS = 3_000
"""Their kernel matrix takes 72 MB. Up to this many images the solution is exact. On 6,321 images,
1,000, 2,000 and 4,000 landmarks gave an average precision of 0.78, 0.83 and 0.84."""
_MEDIAN_EXPONENT = 2.0
"""The kernel is exp(-2) at the median distance: on four data sets 1 was as good and 4 was worse."""
_RIDGE = 0.3
"""Ridge penalty: values from 0.1 to 1 made hardly a difference."""
_INTERMEDIATE_WEIGHT = 0.3
"""Weight of the intermediate features beside the last ones: 0.1 was 0.01 worse."""
_JITTER = 1e-3
"""Keeps the matrix positive definite if landmarks are equal; small against the ridge penalty."""
_BLOCK = 4_096
"""Images per block of the kernel matrix: 49 MB."""
_MIN_MEDIAN = 1e-3
"""Smallest median distance: below it, images differ by rounding only."""


def root_normalized(features: Features) -> Features:
    """Signed square roots, scaled to unit length, so that no single channel dominates.

    Args:
        features: float32, (N, D).

    Returns:
        float32, (N, D), rows of length 1.
    """
    roots = np.sign(features) * np.sqrt(np.abs(features))
    length = np.maximum(np.linalg.norm(roots, axis=1, keepdims=True), 1e-12)
    return np.asarray(roots / length, np.float32)


def _embed(
    features: Features, size: int, mean: NDArray[np.float32], deviation: NDArray[np.float32]
) -> Features:
    """float32, (N, D + E): the last features at length 1, intermediate ones at a smaller length."""
    intermediate = (features[:, size:] - mean) / deviation
    length = np.maximum(np.linalg.norm(intermediate, axis=1, keepdims=True), 1e-12)
    return np.hstack(
        [root_normalized(features[:, :size]), _INTERMEDIATE_WEIGHT**0.5 * intermediate / length]
    )


def _squared_length(points: Features, size: int) -> float:
    return 1 + _INTERMEDIATE_WEIGHT if points.shape[1] > size else 1.0


@dataclass(frozen=True)
class Landmarks:
    """The landmarks of a Nyström approximation.

    Attributes:
        points: float32, (M, D + E): the embedded features of the landmarks.
        size: D, the number of features of the last layer; E intermediate features follow.
        mean: float32, (E,), of the intermediate features.
        deviation: float32, (E,), of the intermediate features.
        scale: Factor of half a squared distance in the kernel's exponent.
    """

    points: Features
    size: int
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    scale: float

    @classmethod
    def of(cls, features: Features, size: int) -> "Landmarks":
        """Takes some images as landmarks.

        Args:
            features: float32, (M, D + E), with M at least 1.
            size: D. The E intermediate features, which may be none, are standardized.

        Returns:
            The landmarks, with a scale from their median distance.
        """
        intermediate = features[:, size:]
        mean, deviation = intermediate.mean(0), intermediate.std(0) + 1e-6
        points = _embed(features, size, mean, deviation)
        distance = _squared_length(points, size) - points @ points.T
        distances = distance[np.triu_indices(len(points), 1)]
        median = float(np.median(distances)) if len(distances) else 1.0
        return cls(points, size, mean, deviation, _MEDIAN_EXPONENT / max(median, _MIN_MEDIAN))

    def similarity(self, features: Features) -> Features:
        """The kernel between some images and the landmarks: float32, (n, M), in (0, 1]."""
        return self._kernel(_embed(features, self.size, self.mean, self.deviation))

    def _kernel(self, points: NDArray[Any]) -> NDArray[Any]:
        distance = points @ self.points.T - _squared_length(points, self.size)
        return np.asarray(np.exp(self.scale * distance), points.dtype)

    @cached_property
    def cholesky(self) -> Features:
        """float32, (M, M): the Cholesky factor of the landmarks' kernel matrix."""
        # In float32, rounding makes the matrix of nearly equal images indefinite.
        points = self.points.astype(np.float64)
        gram = self._kernel(points)
        gram[np.diag_indices(len(gram))] += _JITTER
        return np.asarray(np.linalg.cholesky(gram), np.float32)


@dataclass(frozen=True)
class KernelHead:
    """A fitted kernel head.

    Attributes:
        landmarks: The landmarks of the kernel.
        weight: float32, (M, C).
        bias: float32, (C,).
    """

    landmarks: Landmarks
    weight: Features
    bias: NDArray[np.float32]

    def __call__(self, features: Features) -> Features:
        """Scores, float32 (n, C): about 1 for an image's class, 0 for others; not probabilities."""
        found = np.empty((len(features), len(self.bias)), np.float32)
        for part in blocks(len(features), _BLOCK):
            found[part] = self.landmarks.similarity(features[part]) @ self.weight + self.bias
        return found


def fit_folds(
    train: Examples,
    fold_of: NDArray[np.int64],
    landmarks: Landmarks,
    *,
    folds: int,
    num_classes: int,
) -> list[KernelHead]:
    """Fits one head per fold, on the images of all other folds.

    Args:
        train: Features and labels.
        fold_of: int64, (N,): the fold of each image, in [0, folds).
        landmarks: Any images; their labels are not used.
        folds: The number of folds.
        num_classes: C.

    Returns:
        The heads in the order of the folds.
    """
    inputs = np.empty((len(train.labels), len(landmarks.points)), np.float32)  # (N, M)
    for block in blocks(len(inputs), _BLOCK):
        similar = landmarks.similarity(train.features[block])
        inputs[block] = solve_triangular(landmarks.cholesky, similar.T, lower=True).T
    targets = np.eye(num_classes, dtype=np.float32)[train.labels]  # (N, C)
    total = _Sums.of(inputs, targets)
    heads = []
    for number in range(folds):
        held_out = fold_of == number
        heads.append(
            _solve(total.without(_Sums.of(inputs[held_out], targets[held_out])), landmarks)
        )
    return heads


@dataclass(frozen=True)
class _Sums:
    """Sums over images, which are sufficient for least squares."""

    count: int
    squares: NDArray[np.float64]
    """(M, M)"""
    products: NDArray[np.float64]
    """(M, C)"""
    inputs: NDArray[np.float64]
    """(M,)"""
    targets: NDArray[np.float64]
    """(C,)"""

    @classmethod
    def of(cls, inputs: Features, targets: Features) -> "_Sums":
        return cls(
            len(inputs),
            (inputs.T @ inputs).astype(np.float64),
            (inputs.T @ targets).astype(np.float64),
            inputs.sum(0, dtype=np.float64),
            targets.sum(0, dtype=np.float64),
        )

    def without(self, other: "_Sums") -> "_Sums":
        return _Sums(
            self.count - other.count,
            self.squares - other.squares,
            self.products - other.products,
            self.inputs - other.inputs,
            self.targets - other.targets,
        )


def _solve(sums: _Sums, landmarks: Landmarks) -> KernelHead:
    """Solves the least squares problem. The bias is the frequency of each class."""
    bias = sums.targets / max(1, sums.count)
    squares = sums.squares.copy()
    squares[np.diag_indices(len(squares))] += _RIDGE
    found = cho_solve(
        cho_factor(squares, overwrite_a=True), sums.products - sums.inputs[:, None] * bias
    )
    # Folded into the weight, so that prediction needs only the kernel.
    weight = solve_triangular(landmarks.cholesky, found.astype(np.float32), lower=True, trans="T")
    return KernelHead(landmarks, weight, bias.astype(np.float32))
