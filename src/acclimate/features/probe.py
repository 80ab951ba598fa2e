"""The probe: a linear head on frozen features, which fine-tuning starts from.

Source: Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features", arXiv 2202.10054: a
random head sends large wrong gradients into the backbone; a fitted one does not.
"""

import numpy as np
from torch import nn

from acclimate.context import Context
from acclimate.data.dataset import Dataset, balanced_sample
from acclimate.errors import DataError
from acclimate.features.extract import extract, in_range_of
from acclimate.features.fit_head import Examples, fit_head
from acclimate.features.settings import Probe
from acclimate.models.classifier import Classifier, StepRecord, plain
from acclimate.models.structure import with_head

_DEFAULT = Probe()
_HERE = Context()


def probe(
    classifier: Classifier,
    dataset: Dataset,
    settings: Probe = _DEFAULT,
    *,
    context: Context = _HERE,
) -> Classifier:
    """Replaces the head of a network by a linear head fitted on its frozen features.

    Args:
        classifier: Pretrained network.
        dataset: Cleaned data set with splits.
        settings: Number of images and regularization strengths.
        context: The run.

    Returns:
        A classifier of the data set's classes; the backbone is unchanged.

    Raises:
        DataError: The data set has fewer than two classes, or a class without training images.
    """
    check_trainable(dataset)
    classifier = in_range_of(dataset, classifier)
    rng = np.random.default_rng(context.seed_for("probe"))
    train, val = (
        balanced_sample(dataset, dataset.rows(split), settings.max_images, rng)
        for split in ("train", "val")
    )
    features = extract(classifier, dataset, np.concatenate([train, val]), context)
    labels = dataset.labels[np.concatenate([train, val])]
    cut = len(train)
    fitted = fit_head(
        "linear",
        Examples(features[:cut], labels[:cut]),
        Examples(features[cut:], labels[cut:]),
        len(dataset.classes),
        settings.regularization,
    )
    layer = nn.Linear(fitted.weight.shape[1], len(dataset.classes))
    fitted.copy_to(layer)
    network = with_head(classifier.module(), layer).eval()
    split = "val" if len(val) else "train"
    context.progress.info(f"probe: {split} accuracy {fitted.accuracy:.3f}")
    figures = {f"{split}_accuracy": fitted.accuracy, "regularization": fitted.regularization}
    return classifier.after(
        StepRecord("probe", plain(settings), figures),
        network=network,
        classes=dataset.classes,
        trained_on=dataset,
    )


def check_trainable(dataset: Dataset) -> None:
    """Checks that a classifier can be trained on a data set.

    Args:
        dataset: Data set with splits.

    Raises:
        DataError: There are fewer than two classes, a class has no training images, or the images
            were never decoded.
    """
    if len(dataset.classes) < 2:
        content = f"only the class {dataset.classes[0]!r}" if dataset.classes else "no labels"
        raise DataError(
            f"data has {content}; a classifier needs at least two classes.",
            where=dataset.shown_root,
            hint="Put the images into one folder per class.",
        )
    empty = [name for name, n in dataset.counts("train").items() if n == 0]
    if empty:
        raise DataError(
            f"class {empty[0]!r} has no training images.",
            where=dataset.shown_root,
            hint="Add images to the train split, or leave the class out with "
            "--set data.leave_out_classes=[...].",
        )
    if dataset.table["digest"].take(dataset.rows("train")).null_count:
        raise DataError(
            "images were listed but never decoded.",
            where=dataset.shown_root,
            hint="Clean the data first, with 'unreadable' among clean.checks.",
        )
