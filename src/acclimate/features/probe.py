"""A linear head on frozen features: in seconds, and the best place to start fine-tuning from.

Source: Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features", arXiv 2202.10054: a
random head sends large wrong gradients into the backbone; a fitted one does not.
"""

import numpy as np
from torch import nn

from acclimate.context import Context
from acclimate.data.dataset import Dataset, balanced_sample
from acclimate.errors import DataError
from acclimate.features.extract import extract
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
