"""A linear head on frozen features: in seconds, and the best place to start fine-tuning from.

Source: Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features", arXiv 2202.10054: a
random head sends large wrong gradients into the backbone; a fitted one does not.
"""

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

from acclimate.context import Context
from acclimate.data.dataset import Dataset, balanced
from acclimate.errors import DataError
from acclimate.features.extract import extract
from acclimate.features.settings import Probe
from acclimate.features.store import Features
from acclimate.models.classifier import Classifier, StepRecord, plain
from acclimate.models.structure import with_head

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

_DEFAULT = Probe()
_HERE = Context()
_WITHOUT_VAL = 1e-2
"""Inverse strength where there is no val to choose by: what most data sets here chose."""

_SMOOTHING = 0.05
_EXPONENTS = (-3.0, 9.0)
"""Natural logarithms between which the factor of a head's logits is sought."""


@dataclass(frozen=True)
class LinearHead:
    """A fitted linear head.

    Attributes:
        weight: float32, (C, D).
        bias: float32, (C,).
        accuracy: On val, in [0, 1]; on train where there is no val.
        regularization: The inverse strength that val chose.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    accuracy: float
    regularization: float


def probe(
    classifier: Classifier,
    dataset: Dataset,
    settings: Probe = _DEFAULT,
    *,
    context: Context = _HERE,
) -> Classifier:
    """The pretrained network with its head fitted to the data: fast, and the floor to beat.

    Args:
        classifier: Pretrained; its own head is replaced.
        dataset: Cleaned and split.
        settings: How many images, which strengths.
        context: The run.

    Returns:
        A classifier of the data's classes whose backbone is unchanged.

    Raises:
        DataError: There are fewer than two classes to learn.
    """
    check_trainable(dataset)
    rng = np.random.default_rng(context.seed_for("probe"))
    train, val = (
        balanced(dataset, dataset.rows(split), settings.max_images, rng)
        for split in ("train", "val")
    )
    features = extract(classifier, dataset, np.concatenate([train, val]), context)
    labels = dataset.labels[np.concatenate([train, val])]
    cut = len(train)
    fitted = fit_head(
        Examples(features[:cut], labels[:cut]),
        Examples(features[cut:], labels[cut:]),
        len(dataset.classes),
        settings.regularization,
    )
    layer = nn.Linear(fitted.weight.shape[1], len(dataset.classes))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(fitted.weight))
        layer.bias.copy_(torch.from_numpy(fitted.bias))
    network = with_head(classifier.module(), layer).eval()
    judged = "val" if len(val) else "train"
    context.progress.info(f"probe: {judged} accuracy {fitted.accuracy:.3f}")
    figures = {f"{judged}_accuracy": fitted.accuracy, "regularization": fitted.regularization}
    return classifier.after(
        StepRecord("probe", plain(settings), figures),
        network=network,
        classes=dataset.classes,
        dataset=dataset.digest,
    )


def check_trainable(dataset: Dataset) -> None:
    """Refuses data that nothing can be learnt from.

    Args:
        dataset: Split.

    Raises:
        DataError: Fewer than two classes, or a class without training images.
    """
    if len(dataset.classes) < 2:
        shown = f"only the class {dataset.classes[0]!r}" if dataset.classes else "no labels"
        raise DataError(
            f"data has {shown}; a classifier needs at least two classes.",
            where=dataset.root,
            hint="Put the images into one folder per class.",
        )
    empty = [name for name, n in dataset.counts("train").items() if n == 0]
    if empty:
        raise DataError(
            f"class {empty[0]!r} has no training images.",
            where=dataset.root,
            hint="Add some to train, or leave the class out with "
            "--set data.leave_out_classes=[...].",
        )
    if dataset.table["digest"].take(dataset.rows("train")).null_count:
        raise DataError(
            "images were listed but never looked at.",
            where=dataset.root,
            hint="Clean the data first, with 'unreadable' among clean.checks.",
        )


@dataclass(frozen=True)
class Examples:
    """Features with their labels.

    Attributes:
        features: float32, (N, D).
        labels: int64, (N,).
    """

    features: Features
    labels: NDArray[np.int64]


def fit_head(
    train: Examples, val: Examples, num_classes: int, strengths: tuple[float, ...]
) -> LinearHead:
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
    judged = (val.features - mean) / std if has_val else scaled
    truth = val.labels if has_val else train.labels
    heads: list[tuple[float, LinearHead]] = []
    for strength in strengths if has_val else (_WITHOUT_VAL,):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=strength, max_iter=200).fit(scaled, train.labels)
        weight, bias = _of_all_classes(model, num_classes)
        logits = judged @ weight.T + bias
        accuracy = float((logits.argmax(1) == truth).mean())
        scale, loss = calibrated(logits, truth) if has_val else (1.0, 0.0)
        folded = (scale * weight / std).astype(np.float32)
        shifted = (scale * bias - folded @ mean).astype(np.float32)
        heads.append((loss, LinearHead(folded, shifted, accuracy, strength)))
    return max(heads, key=lambda pair: (pair[1].accuracy, -pair[0]))[1]


def calibrated(logits: NDArray[np.float64], truth: NDArray[np.int64]) -> tuple[float, float]:
    """The factor at which a head is as sure as it is right (Guo et al. 2017, arXiv 1706.04599).

    A strongly regularized head is right with hardly any confidence: on digits its loss was 1.88 at
    an accuracy of 0.93, and 0.36 with the right factor.

    Args:
        logits: float64, (N, C).
        truth: int64, (N,).

    Returns:
        The factor, and the loss with it: cross-entropy with a little label smoothing, without
        which the factor would have no bound where val is all right.
    """
    rows = np.arange(len(truth))

    def loss(scale: float) -> float:
        scaled = scale * logits
        wanted = (1 - _SMOOTHING) * scaled[rows, truth] + _SMOOTHING * scaled.mean(1)
        return float((logsumexp(scaled, axis=1) - wanted).mean())

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
