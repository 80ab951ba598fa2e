"""Fits heads on frozen features: what the probe, fine-tuning and the search start from."""

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from torch import nn
from torch.nn import functional

from acclimate.features.store import Features

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

_WITHOUT_VAL = 1e-2
"""Inverse strength without a val split to choose it on: what most data sets here chose."""

_SMOOTHING = 0.05
_EXPONENTS = (-3.0, 9.0)
"""Natural logarithms of the bounds of the factor of a head's logits."""

_STEPS = 60
_FIRST_LENGTH = 10.0
"""Of a cosine head's class directions, before they are fitted."""


@dataclass(frozen=True)
class Examples:
    """Features with their labels.

    Attributes:
        features: float32, (N, D).
        labels: int64, (N,).
    """

    features: Features
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class FittedHead:
    """The last layer of a head, fitted to features.

    Attributes:
        weight: float32, (C, D).
        bias: float32, (C,).
        accuracy: On val, in [0, 1]; on train without a val split.
        regularization: The inverse strength that was chosen on val; infinite for a cosine head.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    accuracy: float
    regularization: float

    def copy_to(self, layer: nn.Linear) -> None:
        """Gives a layer the fitted weights. Changes the layer."""
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(self.weight))
            layer.bias.copy_(torch.from_numpy(self.bias))


def fit_head(
    kind: str, train: Examples, val: Examples, num_classes: int, strengths: tuple[float, ...]
) -> FittedHead:
    """The last layer of a head, fitted to the features that it takes.

    Args:
        kind: A name in `HEADS`. Hidden layers of an "mlp" stay as they are; for "cosine", features
            have length one.
        train: Every class present.
        val: Chooses the regularization strength; may be empty.
        num_classes: C.
        strengths: Inverse regularization strengths to try; a cosine head is fitted without.

    Returns:
        The fitted layer.
    """
    if kind != "cosine":
        return fit_linear(train, val, num_classes, strengths)
    weight = fit_directions(train, num_classes).numpy()
    measured = val if len(val.labels) else train
    predictions = (measured.features @ weight.T).argmax(1)
    accuracy = float((predictions == measured.labels).mean())
    return FittedHead(weight, np.zeros(num_classes, np.float32), accuracy, math.inf)


def fit_linear(
    train: Examples, val: Examples, num_classes: int, strengths: tuple[float, ...]
) -> FittedHead:
    """Multinomial logistic regression, its strength chosen on val.

    Args:
        train: Every class present.
        val: May be empty; then the first guess is kept.
        num_classes: C.
        strengths: Inverse regularization strengths to try.

    Returns:
        The best head.
    """
    # Imported here: it takes a second to come, and most commands fit no such head.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, std = train.features.mean(0), train.features.std(0) + 1e-6
    scaled = (train.features - mean) / std
    has_val = len(val.labels) > 0
    measured = (val.features - mean) / std if has_val else scaled
    labels_of_measured = val.labels if has_val else train.labels
    heads: list[tuple[float, FittedHead]] = []
    for strength in strengths if has_val else (_WITHOUT_VAL,):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=strength, max_iter=200).fit(scaled, train.labels)
        weight, bias = _of_all_classes(model, num_classes)
        logits = measured @ weight.T + bias
        accuracy = float((logits.argmax(1) == labels_of_measured).mean())
        scale, loss = calibrated(logits, labels_of_measured) if has_val else (1.0, 0.0)
        folded = (scale * weight / std).astype(np.float32)
        shifted = (scale * bias - folded @ mean).astype(np.float32)
        heads.append((loss, FittedHead(folded, shifted, accuracy, strength)))
    return max(heads, key=lambda pair: (pair[1].accuracy, -pair[0]))[1]


def fit_directions(train: Examples, num_classes: int) -> torch.Tensor:
    """Class directions of one length, whose products with features of length one are logits.

    Starts from each class's mean (Qi et al. 2018, "Low-Shot Learning with Imprinted Weights",
    arXiv 1712.07136) and makes the smoothed cross-entropy small with L-BFGS.

    Args:
        train: Features of length one; every class present.
        num_classes: C.

    Returns:
        float32, (C, D), all rows of one length.
    """
    features = torch.from_numpy(train.features)
    labels = torch.from_numpy(train.labels)
    means = torch.zeros(num_classes, features.shape[1]).index_add_(0, labels, features)
    # What all classes share tells none of them apart.
    directions = functional.normalize(functional.normalize(means, dim=1) - features.mean(0), dim=1)
    directions = directions.detach().requires_grad_()
    log_length = torch.tensor(_FIRST_LENGTH).log().requires_grad_()
    parameters = [directions, log_length]
    optimizer = torch.optim.LBFGS(parameters, max_iter=_STEPS, line_search_fn="strong_wolfe")

    def weight() -> torch.Tensor:
        return functional.normalize(directions, dim=1) * log_length.exp()

    def closure() -> float:
        logits = features @ weight().T
        loss = functional.cross_entropy(logits, labels, label_smoothing=_SMOOTHING)
        directions.grad, log_length.grad = torch.autograd.grad(loss, parameters)
        return float(loss.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight().detach()


def calibrated(
    logits: NDArray[np.float64], labels_of_measured: NDArray[np.int64]
) -> tuple[float, float]:
    """The factor at which a head is as sure as it is right (Guo et al. 2017, arXiv 1706.04599).

    A strongly regularized head is right with hardly any confidence: on digits its loss was 1.88 at
    an accuracy of 0.93, and 0.36 with the right factor.

    Args:
        logits: float64, (N, C).
        labels_of_measured: int64, (N,).

    Returns:
        The factor, and the loss with it: cross-entropy with a little label smoothing, without
        which the factor would have no bound where val is all right.
    """
    rows = np.arange(len(labels_of_measured))

    def loss(scale: float) -> float:
        scaled = scale * logits
        target_logits = (1 - _SMOOTHING) * scaled[
            rows, labels_of_measured
        ] + _SMOOTHING * scaled.mean(1)
        return float((logsumexp(scaled, axis=1) - target_logits).mean())

    found = minimize_scalar(lambda exponent: loss(math.exp(exponent)), bounds=_EXPONENTS)
    return math.exp(found.x), float(found.fun)


def _of_all_classes(
    model: "LogisticRegression", num_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The head's rows, one a class.

    scikit-learn gives two classes one row, and gives none to a class that was not drawn: that one
    is put below all others.
    """
    weight, bias = model.coef_, model.intercept_
    if len(model.classes_) == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    all_weight = np.zeros((num_classes, weight.shape[1]))
    all_bias = np.full(num_classes, bias.min() - 1)
    all_weight[model.classes_], all_bias[model.classes_] = weight, bias
    return all_weight, all_bias
