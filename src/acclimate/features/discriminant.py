"""A linear head computed from class statistics alone, without the images.

Source: linear discriminant analysis as a head on frozen features, Hayes and Kanan 2020, arXiv
1909.01520. Adding a class does not change the statistics of the other classes.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from acclimate.context import Context, process_rank
from acclimate.data.dataset import Dataset, Rows, balanced_sample
from acclimate.data.images.batches import ordered_batches
from acclimate.features.fit_head import calibrated
from acclimate.models.class_statistics import ClassStatistics
from acclimate.models.classifier import Classifier
from acclimate.models.runtime import run_torch
from acclimate.models.structure import backbone, head

_MAX_IMAGES, _PER_CLASS = 1_000, 10
"""Images to measure: enough for a covariance of rank 64, and enough per class for its mean."""

_SHRINKAGE = 0.2
"""Weight of an isotropic covariance: from 0.03 to 0.3 the accuracy on digits changed by half a
point; 0.3 was best on CIFAR-10."""

_MAX_HELD_OUT, _HELD_OUT_PER_CLASS = 500, 20
"""Largest number of val features to keep: half a megabyte for ten classes of 1,280 features."""


def with_statistics(classifier: Classifier, dataset: Dataset, context: Context) -> Classifier:
    """Adds the statistics of the training images' features to a classifier.

    Measures a thousand images or ten per class, whichever is more, balanced over the classes. The
    features of up to 20 val images per class, 500 in all, are kept to calibrate heads on.

    Args:
        classifier: Trained on these images and classes.
        dataset: The images.
        context: The run. Of several processes only the first measures.

    Returns:
        The classifier with its statistics.
    """
    if process_rank() > 0:
        return classifier
    rng = np.random.default_rng(context.seed_for("class statistics"))
    most = max(_MAX_IMAGES, _PER_CLASS * len(dataset.classes))
    rows = balanced_sample(dataset, dataset.rows("train"), most, rng)
    return replace(classifier, statistics=class_statistics(classifier, dataset, rows, context))


def class_statistics(
    classifier: Classifier, dataset: Dataset, rows: Rows, context: Context
) -> ClassStatistics:
    """Measures mean and covariance of the backbone's features, and keeps some val features.

    Args:
        classifier: Only its backbone is used.
        dataset: The images.
        rows: The labelled images to measure.
        context: The run.

    Returns:
        The statistics; the count of a class without images is 0.
    """
    classes, size = len(dataset.classes), head(classifier.module()).in_features
    body = replace(classifier, network=backbone(classifier.module()))
    run = run_torch(body, context.device)
    counts, sums = np.zeros(classes), np.zeros((classes, size))
    products = np.zeros((size, size))
    with context.progress.task("class statistics", len(rows)) as task:
        for batch in ordered_batches(dataset, rows, classifier.contract, context=context):
            features = run(batch.images).astype(np.float64)
            np.add.at(counts, batch.targets, 1)
            np.add.at(sums, batch.targets, features)
            products += features.T @ features
            task.advance(len(features))
    means = sums / np.maximum(counts, 1)[:, None]
    within = (products - (means * counts[:, None]).T @ means) / max(1, len(rows))
    statistics = ClassStatistics.of(counts, means, within)
    rng = np.random.default_rng(context.seed_for("held features"))
    held_out_rows = balanced_sample(
        dataset, dataset.rows("val"), min(_MAX_HELD_OUT, _HELD_OUT_PER_CLASS * classes), rng
    )
    for batch in ordered_batches(dataset, held_out_rows, classifier.contract, context=context):
        statistics = statistics.with_held_out(run(batch.images), batch.targets)
    return statistics


def fit_discriminant(statistics: ClassStatistics) -> nn.Linear:
    """Linear discriminant analysis with equal class priors.

    Args:
        statistics: Statistics of every class. The logits are calibrated on their val features.

    Returns:
        A layer from D features to C logits.
    """
    size = len(statistics.diagonal)
    within = statistics.within()
    isotropic = max(float(np.trace(within)) / size, 1e-12) * np.eye(size)
    shrunk = (1 - _SHRINKAGE) * within + _SHRINKAGE * isotropic
    center = statistics.means.mean(0, dtype=np.float64)
    centered = statistics.means - center
    weight = np.linalg.solve(shrunk, centered.T).T
    bias = -0.5 * (weight * centered).sum(1) - weight @ center
    # A class without val features is calibrated on its mean.
    missing = np.setdiff1d(np.arange(len(weight)), statistics.held_labels)
    held_out = np.vstack([statistics.held, statistics.means[missing]])
    scale, _ = calibrated(held_out @ weight.T + bias, np.append(statistics.held_labels, missing))
    layer = nn.Linear(size, len(weight))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(scale * weight))
        layer.bias.copy_(torch.from_numpy(scale * bias))
    return layer
