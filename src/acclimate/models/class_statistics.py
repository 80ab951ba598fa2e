"""Statistics of the features of each class, from which classes can be added without the images.

A mean for each class and one covariance for all (Hayes and Kanan 2020, "Lifelong Machine Learning
with Deep Streaming Linear Discriminant Analysis", arXiv 1909.01520). The covariance is stored as a
low-rank matrix plus a diagonal. Some features of val images are stored too, to calibrate a head.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from scipy.linalg import eigh

from acclimate.errors import ModelFileError, reason
from acclimate.files import digest_bytes

RANK = 64
"""For 1,280 features. On digits, rank 16 lost a point and the full matrix gained nothing. On
CIFAR-10 the full matrix of 1,600 images was two points worse, because the low rank regularizes."""

_PARTS = ("counts", "means", "factor", "diagonal", "held", "held_labels")


@dataclass(frozen=True)
class ClassStatistics:
    """Moments of the features of each class.

    Attributes:
        counts: float32, (C,): number of measured images; 0 if a class was not measured.
        means: float32, (C, D).
        factor: float32, (R, D): the covariance within classes is factor.T @ factor + diagonal.
        diagonal: float32, (D,), not negative.
        held: float32, (M, D): held-out features; stored as float16.
        held_labels: int64, (M,): class ids of the held-out features.
    """

    counts: NDArray[np.float32]
    means: NDArray[np.float32]
    factor: NDArray[np.float32]
    diagonal: NDArray[np.float32]
    held: NDArray[np.float32]
    held_labels: NDArray[np.int64]

    @classmethod
    def of(
        cls, counts: NDArray[np.float64], means: NDArray[np.float64], within: NDArray[np.float64]
    ) -> Self:
        """Builds statistics; the covariance is reduced to its largest principal components.

        Args:
            counts: (C,).
            means: (C, D).
            within: (D, D): the covariance within the classes.

        Returns:
            The statistics.
        """
        size = len(within)
        rank = min(RANK, size)
        values, vectors = eigh(within, subset_by_index=[size - rank, size - 1])
        factor = (vectors * np.sqrt(np.maximum(values, 0))).T
        residual = np.maximum(np.diag(within) - (factor**2).sum(0), 0)
        moments = [np.asarray(part, np.float32) for part in (counts, means, factor, residual)]
        nothing = np.empty((0, size), np.float32), np.empty(0, np.int64)
        return cls(moments[0], moments[1], moments[2], moments[3], *nothing)

    def with_held_out(self, features: NDArray[np.float32], labels: NDArray[np.int64]) -> Self:
        """The same with more held-out features, (M, D), and their class ids, (M,)."""
        held, held_labels = np.vstack([self.held, features]), np.append(self.held_labels, labels)
        return replace(self, held=held, held_labels=held_labels)

    def within(self) -> NDArray[np.float64]:
        """float64, (D, D): the covariance within the classes."""
        factor = self.factor.astype(np.float64)
        return factor.T @ factor + np.diag(self.diagonal.astype(np.float64))

    def with_more_classes(self, num_classes: int) -> Self:
        """The same with more classes at the end, whose counts are 0."""
        more = num_classes - len(self.counts)
        counts, means = np.pad(self.counts, (0, more)), np.pad(self.means, ((0, more), (0, 0)))
        return replace(self, counts=counts, means=means)

    def merged(self, other: Self) -> Self:
        """The statistics of two sets of images together, up to the low-rank approximation.

        Args:
            other: Statistics of the same features and classes.

        Returns:
            The combined statistics.
        """
        own_counts, other_counts = self.counts.astype(np.float64), other.counts.astype(np.float64)
        total = np.maximum(own_counts + other_counts, 1)
        shift = other.means.astype(np.float64) - self.means
        means = self.means + (other_counts / total)[:, None] * shift
        # A class in both sets also has scatter between its two means.
        scatter = self.within() * own_counts.sum() + other.within() * other_counts.sum()
        scatter += (shift * (own_counts * other_counts / total)[:, None]).T @ shift
        merged = self.of(
            own_counts + other_counts,
            means,
            scatter / max(1, own_counts.sum() + other_counts.sum()),
        )
        held = merged.with_held_out(self.held, self.held_labels)
        return held.with_held_out(other.held, other.held_labels)

    def as_bytes(self) -> bytes:
        """The content of a safetensors file."""
        parts = {name: getattr(self, name) for name in _PARTS}
        return safetensors.numpy.save({**parts, "held": self.held.astype(np.float16)})

    @classmethod
    def from_bytes(cls, content: bytes, num_classes: int) -> Self:
        """Reads what `as_bytes` wrote.

        Args:
            content: The content of the file.
            num_classes: C.

        Returns:
            The statistics.

        Raises:
            ModelFileError: The content is not valid.
        """
        try:
            parts = safetensors.numpy.load(content)
            small = {name: np.asarray(parts.pop(name), np.float32) for name in _PARTS[:-1]}
            found = cls(**small, held_labels=parts["held_labels"])
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"class statistics cannot be read ({reason(error)}).") from error
        if not found._fits(num_classes):
            shapes = {name: getattr(found, name).shape for name in _PARTS}
            raise ModelFileError(
                f"class statistics do not fit a model of {num_classes} classes ({shapes})."
            )
        return found

    def _fits(self, num_classes: int) -> bool:
        """Whether shapes and values are consistent; the file may come from anywhere."""
        size, labels = self.diagonal.size, self.held_labels
        return (
            self.counts.shape == (num_classes,)
            and self.means.shape == (num_classes, size)
            and self.diagonal.shape == (size,)
            and self.factor.shape[1:] == self.held.shape[1:] == (size,)
            and labels.dtype == np.int64
            and labels.shape == self.held.shape[:1]
            and 0 <= labels.min(initial=0) <= labels.max(initial=0) < num_classes
            and all(np.isfinite(getattr(self, name)).all() for name in _PARTS)
            and min(self.counts.min(), self.diagonal.min(initial=0)) >= 0
        )

    @property
    def digest(self) -> str:
        """The digest of the file."""
        return digest_bytes(self.as_bytes())
