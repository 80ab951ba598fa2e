"""Out-of-fold predictions by kernel ridge regression on a pretrained network's features."""

from dataclasses import replace

import numpy as np

from acclimate.features.extract import feature_size
from acclimate.features.fit_head import Examples
from acclimate.features.kernel import LANDMARKS, Landmarks, fit_folds
from acclimate.inspection.feature_view import FeatureView
from acclimate.inspection.folds import Folds, Logits


def kernel_logits(view: FeatureView, folds: Folds) -> Logits:
    """Kernel ridge regression on the last features and, with less weight, the middle ones.

    Args:
        view: The features.
        folds: The rows to predict, each by a head that was fitted without them.

    Returns:
        float32, (n, C), in the order of `folds.rows`.
    """
    dataset, known_rows = view.dataset, folds.known
    known = Examples(view.features(known_rows, intermediate=True), dataset.labels[known_rows])
    rng = np.random.default_rng(view.context.seed_for("landmarks"))
    chosen = rng.permutation(len(known_rows))[:LANDMARKS]
    landmarks = Landmarks.of(known.features[chosen], feature_size(view.classifier))
    heads = fit_folds(
        known,
        folds.fold[known_rows],
        landmarks,
        folds=folds.number,
        num_classes=len(dataset.classes),
    )
    logits = np.zeros((len(folds.rows), len(dataset.classes)), np.float32)
    with view.context.progress.task("label errors", len(folds.rows), "images") as task:
        for places, block in view.blocks(folds.rows, intermediate=True):
            part = replace(folds, rows=folds.rows[places])
            for fold, head in enumerate(heads):
                here = part.held_out(fold)
                logits[places[here]] += part.weight(here) * head(block[here])
            task.advance(len(places))
    return logits
