"""The head that training starts from."""

import copy
from dataclasses import replace

import numpy as np
import torch

from acclimate.context import Context, process_count, process_rank
from acclimate.data.dataset import Dataset
from acclimate.features.extract import extract, in_range_of
from acclimate.features.fit_head import Examples, fit_head
from acclimate.features.probe import probe
from acclimate.models.classifier import Classifier, StepRecord
from acclimate.models.heads import head_kind, replace_head
from acclimate.models.structure import head


def with_fitted_head(
    classifier: Classifier, dataset: Dataset, kind: str, context: Context
) -> Classifier:
    """Gives a classifier a head for the data's classes, fitted on frozen features.

    Args:
        classifier: Returned unchanged if it has these classes and this kind of head.
        dataset: Cleaned and split.
        kind: A name in `HEADS`, or "auto".
        context: Seed, device, progress.

    Returns:
        The classifier.

    Raises:
        ModelFileError: The network cannot have such a head.
    """
    classifier = in_range_of(dataset, classifier)
    has = head_kind(classifier.module())
    if classifier.classes == dataset.classes and kind in ("auto", has):
        return classifier
    wanted = "linear" if kind == "auto" else kind
    if wanted == has == "linear" and process_count() == 1:
        return probe(classifier, dataset, context=context)
    network = copy.deepcopy(classifier.module())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed_for("head") % 2**63)
        replace_head(network, wanted, len(dataset.classes))
    renewed = replace(classifier, network=network.eval(), classes=dataset.classes, graph=None)
    if process_count() > 1 and process_rank() > 0:
        # The first process fits the head and hands it to all when training starts.
        return renewed.after(StepRecord("probe"))
    if wanted == "cosine":
        return _with_directions(renewed, dataset, context)
    return probe(renewed, dataset, context=context)


def _with_directions(classifier: Classifier, dataset: Dataset, context: Context) -> Classifier:
    """The cosine head's directions, fitted to the training images. Changes the network."""
    train, val = dataset.rows("train"), dataset.rows("val")
    features = extract(classifier, dataset, np.concatenate([train, val]), context)
    cut = len(train)
    fitted = fit_head(
        "cosine",
        Examples(features[:cut], dataset.labels[train]),
        Examples(features[cut:], dataset.labels[val]),
        len(dataset.classes),
        (),
    )
    fitted.copy_to(head(classifier.module()))
    figures = {}
    if len(val):
        figures["val_accuracy"] = fitted.accuracy
        context.progress.info(f"probe: val accuracy {figures['val_accuracy']:.3f}")
    step = StepRecord("probe", {"head": "cosine"}, figures)
    return classifier.after(step, trained_on=dataset)
