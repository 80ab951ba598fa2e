"""Extracts features with the frozen backbone and caches them by image digest."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from acclimate.context import Context
from acclimate.data.dataset import Dataset, Rows
from acclimate.data.images.batches import ordered_batches
from acclimate.data.images.contract import Pixels
from acclimate.features.store import Features, FeatureStore, StoredRows, store_lock
from acclimate.files import digest_json, write_atomic
from acclimate.models.classifier import Classifier
from acclimate.models.device import choose_device, on_cpu
from acclimate.models.intermediate_features import WithIntermediateFeatures, intermediate_size
from acclimate.models.onnx.export import export_network
from acclimate.models.runtime import run_frozen
from acclimate.models.structure import backbone, head
from acclimate.models.weights import digest_weights

_EXPORT_FROM_PIXELS = 12_000_000
"""Pixels of all images together from which on a CPU the backbone is exported to ONNX Runtime. For
fewer, the export takes longer than it saves: with EfficientNet-Lite0 both were equal at 24 million
(64 px) to 15 million (224 px), 12 s of export against a third of the time per image."""


def extract(
    classifier: Classifier,
    dataset: Dataset,
    rows: Rows,
    context: Context,
    *,
    intermediate: bool = False,
) -> Features:
    """Returns the backbone's features of some images, from the cache if they are there.

    Args:
        classifier: Only its backbone is used.
        dataset: Cleaned data set; the cache is keyed by image digest.
        rows: The images.
        context: The run, with the cache.
        intermediate: Append the intermediate features, which come from the same pass.

    Returns:
        float32, (n, D), in the order of the rows; (n, D + M) with intermediate features.

    Raises:
        ModelFileError: The network has no linear head, or cannot be exported.
    """
    stored = extract_to_disk(classifier, dataset, rows, context, intermediate=intermediate)
    return stored[np.arange(len(rows))]


def extract_to_disk(
    classifier: Classifier,
    dataset: Dataset,
    rows: Rows,
    context: Context,
    *,
    intermediate: bool = False,
) -> StoredRows:
    """Extracts features and leaves them on disk, for data sets that do not fit into memory.

    Args:
        classifier: Only its backbone is used.
        dataset: Cleaned data set; the cache is keyed by image digest.
        rows: The images.
        context: The run, with the cache.
        intermediate: Append the intermediate features.

    Returns:
        n rows of D or D + M features, in the order of the rows.

    Raises:
        ModelFileError: The network has no linear head, or cannot be exported.
    """
    classifier = in_range_of(dataset, classifier)
    body = WithIntermediateFeatures(backbone(classifier.module())).eval()
    contract, size = classifier.contract, feature_size(classifier)
    folder = _folder(classifier, body, context)
    digests = dataset.table["digest"].take(rows).to_pylist()
    store = FeatureStore(folder, size + intermediate_size(body, *contract.input_shape[1::-1]))
    columns = None if intermediate else size
    if not store.missing(digests):
        return store.rows(digests, columns)
    with store.lock():
        missing = np.asarray(store.missing(digests), np.int64)
        # Decided by the requested images, not by the missing ones, so that a resumed run computes
        # the same numbers.
        small = len(rows) * contract.image_size**2 < _EXPORT_FROM_PIXELS
        infer = _runner(classifier, body, folder, context.device, export=not small)
        with context.progress.task("features", len(missing)) as task:
            for batch in ordered_batches(dataset, rows[missing], contract, context=context):
                names = dataset.table["digest"].take(batch.rows).to_pylist()
                store.add(names, infer(batch.images))
                task.advance(len(names))
    return store.rows(digests, columns)


def in_range_of(dataset: Dataset, classifier: Classifier) -> Classifier:
    """The classifier with the range of a data set's 16-bit images in its contract.

    Args:
        dataset: What the classifier will learn from.
        classifier: Any classifier.

    Returns:
        A classifier without a graph, whose metadata would have the old contract; the same one if
        nothing changes or there is only a graph.
    """
    if dataset.bits in (None, classifier.contract.bits) or classifier.network is None:
        return classifier
    contract = replace(classifier.contract, bits=dataset.bits)
    return replace(classifier, contract=contract, graph=None)


def load_backbone(classifier: Classifier, context: Context) -> Callable[[Pixels], Features]:
    """Returns the backbone as a function of pixels, for images that are not cached.

    Args:
        classifier: Only its backbone is used.
        context: The run.

    Returns:
        A function from uint8 (B, S, S, 3) to float32 (B, D).

    Raises:
        ModelFileError: The network has no linear head, or cannot be exported.
    """
    body = WithIntermediateFeatures(backbone(classifier.module())).eval()
    folder, size = _folder(classifier, body, context), feature_size(classifier)
    with store_lock(folder):
        infer = _runner(classifier, body, folder, context.device)
    return lambda images: infer(images)[:, :size]


def feature_size(classifier: Classifier) -> int:
    """The number of features that the head of a classifier takes."""
    return head(classifier.module()).in_features


def _folder(classifier: Classifier, body: nn.Module, context: Context) -> Path:
    """The cache folder for this backbone and input contract."""
    name = digest_json([digest_weights(body), classifier.contract.as_record()])
    return context.cache / "features" / name[:16]


def _runner(
    classifier: Classifier, body: nn.Module, folder: Path, device: str, *, export: bool = True
) -> Callable[[Pixels], Features]:
    contract = classifier.contract

    def graph() -> bytes:
        path = folder / "backbone.onnx"
        if not path.exists():
            size, channels = contract.image_size, contract.channels
            write_atomic(path, export_network(on_cpu(body), size, "features", channels))
        return path.read_bytes()

    chosen = choose_device(device)
    return run_frozen(body, contract, chosen, graph if export else None)
