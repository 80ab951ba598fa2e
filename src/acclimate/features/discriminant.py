"""A linear head in closed form: regularized discriminant analysis.

Source: Friedman 1989, "Regularized Discriminant Analysis", JASA 84 (the common covariance drawn
towards a multiple of the identity). On the features tried here it is as accurate as logistic
regression and, where labels are wrong, less sure of what it was told; a fold costs one product and
one factorization, whatever the number of classes.
"""

import numpy as np
from numpy.typing import NDArray

from acclimate.features.probe import Examples, LinearHead

SHRINKAGE = 0.9
"""Part of the identity in the covariance; see `fit_discriminant`."""


def fit_discriminant(
    train: Examples,
    num_classes: int,
    *,
    trust: NDArray[np.float64] | None = None,
    shrinkage: float = SHRINKAGE,
) -> LinearHead:
    """The head whose classes are Gaussians with one covariance.

    Args:
        train: Two classes at least.
        num_classes: C; a class without examples is put below all others.
        trust: float64, (N,), above 0: how much each example counts; all alike when None.
        shrinkage: In (0, 1]: 1 takes the classes' means alone.

    Returns:
        The head; its accuracy is that on what it was fitted on.
    """
    weights = np.ones(len(train.labels)) if trust is None else trust
    mean, std = train.features.mean(0), train.features.std(0) + 1e-6
    scaled = (train.features - mean) / std
    member = np.zeros((len(weights), num_classes), np.float32)
    member[np.arange(len(weights)), train.labels] = weights
    mass = member.sum(0).astype(np.float64)  # (C,)
    means = (member.T @ scaled) / np.maximum(mass, 1e-12)[:, None]  # (C, D)
    apart = (scaled - means[train.labels]) * np.sqrt(weights / mass.sum())[:, None]
    apart = apart.astype(np.float32)
    covariance = (apart.T @ apart).astype(np.float64)  # (D, D)
    level = np.trace(covariance) / len(covariance) + 1e-9
    covariance *= 1 - shrinkage
    covariance[np.diag_indices_from(covariance)] += shrinkage * level
    weight = np.linalg.solve(covariance, means.T).T
    bias = np.log(np.maximum(mass, 1e-12) / mass.sum()) - 0.5 * (weight * means).sum(1)
    bias[mass == 0] = bias[mass > 0].min() - 1e3
    right = (scaled @ weight.T + bias).argmax(1) == train.labels
    folded = (weight / std).astype(np.float32)
    shifted = (bias - folded @ mean).astype(np.float32)
    return LinearHead(folded, shifted, float(right.mean()), shrinkage)
