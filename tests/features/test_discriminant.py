"""The head made of class statistics, and the statistics of real images."""

from dataclasses import replace

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from acclimate.features.discriminant import class_statistics, fit_discriminant, with_statistics
from acclimate.features.extract import extract
from acclimate.models.class_statistics import ClassStatistics


def test_statistics_are_those_of_the_features(start, dataset, context):
    rows = dataset.rows("train")
    features, labels = extract(start, dataset, rows, context), dataset.labels[rows]
    found = class_statistics(start, dataset, rows, context)
    means = np.stack([features[labels == c].mean(0) for c in range(10)])
    assert found.counts.tolist() == np.bincount(labels).tolist()
    np.testing.assert_allclose(found.means, means, atol=1e-3)
    variances = ((features - means[labels]) ** 2).mean(0)
    np.testing.assert_allclose(np.diag(found.within()), variances, atol=1e-3)


def test_held_features_are_those_of_val(start, dataset, context):
    found = with_statistics(start, dataset, context).statistics
    rows = dataset.rows("val")
    assert found.held_labels.tolist() == dataset.labels[rows].tolist()
    np.testing.assert_allclose(found.held, extract(start, dataset, rows, context), atol=1e-3)


def test_it_tells_gaussian_classes_apart_as_linear_discriminant_analysis_does():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 300)
    mixing = np.linalg.qr(rng.normal(size=(8, 8)))[0] * np.linspace(0.5, 1.5, 8)
    features = (rng.normal(size=(900, 8)) @ mixing + rng.normal(size=(3, 8))[labels]) + 50
    means = np.stack([features[labels == c].mean(0) for c in range(3)])
    apart = features - means[labels]
    found = ClassStatistics.of(np.full(3, 300.0), means, apart.T @ apart / 900)
    layer = fit_discriminant(found.with_held_out(features[::9].astype(np.float32), labels[::9]))
    with torch.inference_mode():
        logits = layer(torch.from_numpy(features.astype(np.float32)))
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.2).fit(features, labels)
    assert (logits.argmax(1).numpy() == theirs.predict(features)).mean() > 0.98
    # As sure as it is right: neither far above nor far below.
    sure = float(logits.softmax(1).max(1).values.mean())
    assert abs(sure - (logits.argmax(1).numpy() == labels).mean()) < 0.1


def test_it_tells_real_digits_apart(start, dataset, context):
    found = with_statistics(start, dataset, context).statistics
    rows = dataset.rows("test")
    features = torch.from_numpy(extract(start, dataset, rows, context))
    with torch.inference_mode():
        said = fit_discriminant(found)(features).argmax(1).numpy()
    assert (said == dataset.labels[rows]).mean() > 0.7


def test_a_class_without_val_images_is_no_trouble(start, dataset, context):
    found = with_statistics(start, dataset, context).statistics
    keep = found.held_labels != 3
    some = replace(found, held=found.held[keep], held_labels=found.held_labels[keep])
    none = replace(found, held=found.held[:0], held_labels=found.held_labels[:0])
    for one in (some, none):
        layer = fit_discriminant(one)
        assert layer.weight.isfinite().all()
        assert layer(torch.from_numpy(found.means)).argmax(1).tolist() == list(range(10))
