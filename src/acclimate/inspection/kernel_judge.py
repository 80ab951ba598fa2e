"""What the most similar images are called: heads on features that a pretrained network gives."""

from dataclasses import replace

import numpy as np

from acclimate.features.extract import feature_size
from acclimate.features.fit_head import Examples
from acclimate.features.kernel import LANDMARKS, Landmarks, fit_folds
from acclimate.inspection.feature_view import View
from acclimate.inspection.folds import Folds, Logits


def by_nearness(view: View, folds: Folds) -> Logits:
    """Kernel ridge regression on the last features and a little of the middle ones.

    Args:
        view: The features.
        folds: Who is judged, by heads that were fitted without them.

    Returns:
        float32, (n, C), in the order of `folds.judged`.
    """
    dataset, taught = view.dataset, folds.taught
    known = Examples(view.features(taught, intermediate=True), dataset.labels[taught])
    rng = np.random.default_rng(view.context.seed_for("landmarks"))
    chosen = rng.permutation(len(taught))[:LANDMARKS]
    landmarks = Landmarks.of(known.features[chosen], feature_size(view.classifier))
    heads = fit_folds(
        known,
        folds.of[taught],
        landmarks,
        folds=folds.number,
        num_classes=len(dataset.classes),
    )
    said = np.zeros((len(folds.judged), len(dataset.classes)), np.float32)
    with view.context.progress.task("label errors", len(folds.judged), "images") as task:
        for places, block in view.blocks(folds.judged, intermediate=True):
            some = replace(folds, judged=folds.judged[places])
            for part, head in enumerate(heads):
                here = some.asked_of(part)
                said[places[here]] += some.share(here) * head(block[here])
            task.advance(len(places))
    return said
