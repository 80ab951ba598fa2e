"""One pass of the frozen backbone over the images, each image once; mostly by ONNX Runtime."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import nn

from acclimate.context import Context
from acclimate.data.dataset import Dataset, Rows
from acclimate.data.images.batches import ordered_batches
from acclimate.data.images.contract import Pixels
from acclimate.features.store import Features, FeatureStore, StoredRows, store_lock
from acclimate.files import digest_json, write_atomic
from acclimate.models.classifier import Classifier, digest_weights
from acclimate.models.device import choose_device, on_cpu
from acclimate.models.intermediate_features import WithIntermediateFeatures, intermediate_size
from acclimate.models.onnx.export import export_network
from acclimate.models.runtime import run_frozen
from acclimate.models.structure import backbone, head

_EXPORT_FROM_PIXELS = 12_000_000
"""Pixels of all images together. With fewer of them on a CPU, exporting the backbone takes longer
than ONNX Runtime saves: EfficientNet-Lite0 was even at 24 million (64 px) to 15 million (224 px),
12 s of export against a third of the time an image."""


def extract(
    classifier: Classifier,
    dataset: Dataset,
    rows: Rows,
    context: Context,
    *,
    intermediate: bool = False,
) -> Features:
    """The backbone's features of some images; what was computed once is read from disk.

    Args:
        classifier: Its head is left off.
        dataset: Cleaned: images are found by their digests.
        rows: Which images.
        context: The run; its cache keeps the features.
        intermediate: Append the intermediate features, which come from the same pass.

    Returns:
        float32, (n, D), in the order of the rows; (n, D + M) with the middle.

    Raises:
        ModelFileError: The network has no head to leave off, or cannot be exported.
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
    """The same, but left on disk: for as many images as there are.

    Args:
        classifier: Its head is left off.
        dataset: Cleaned: images are found by their digests.
        rows: Which images.
        context: The run; its cache keeps the features.
        intermediate: Append the intermediate features.

    Returns:
        n rows of D features, or of D + M, in the order of the rows.

    Raises:
        ModelFileError: The network has no head to leave off, or cannot be exported.
    """
    body = WithIntermediateFeatures(backbone(classifier.module())).eval()
    contract, size = classifier.contract, feature_size(classifier)
    folder = _folder(classifier, body, context)
    digests = dataset.table["digest"].take(rows).to_pylist()
    store = FeatureStore(folder, size + intermediate_size(body, contract.image_size))
    columns = None if intermediate else size
    if not store.missing(digests):
        return store.rows(digests, columns)
    with store.lock():
        missing = np.asarray(store.missing(digests), np.int64)
        # By the images that are asked for and not by those that are missing: a run that was killed
        # goes on with the same numbers.
        small = len(rows) * contract.image_size**2 < _EXPORT_FROM_PIXELS
        infer = _runner(classifier, body, folder, context.device, export=not small)
        with context.progress.task("features", len(missing)) as task:
            for batch in ordered_batches(dataset, rows[missing], contract, context=context):
                names = dataset.table["digest"].take(batch.rows).to_pylist()
                store.add(names, infer(batch.images))
                task.advance(len(names))
    return store.rows(digests, columns)


def load_backbone(classifier: Classifier, context: Context) -> Callable[[Pixels], Features]:
    """The backbone, for pixels that are no file: copies of images, which are not kept.

    Args:
        classifier: Its head is left off.
        context: The run.

    Returns:
        uint8 (B, S, S, 3) to float32 (B, D).

    Raises:
        ModelFileError: The network has no head to leave off, or cannot be exported.
    """
    body = WithIntermediateFeatures(backbone(classifier.module())).eval()
    folder, size = _folder(classifier, body, context), feature_size(classifier)
    with store_lock(folder):
        infer = _runner(classifier, body, folder, context.device)
    return lambda images: infer(images)[:, :size]


def feature_size(classifier: Classifier) -> int:
    """D: how many features the head of a classifier takes."""
    return head(classifier.module()).in_features


def _folder(classifier: Classifier, body: nn.Module, context: Context) -> Path:
    """Where features of this backbone at this input size are kept."""
    name = digest_json([digest_weights(body), classifier.contract.as_record()])
    return context.cache / "features" / name[:16]


def _runner(
    classifier: Classifier, body: nn.Module, folder: Path, device: str, *, export: bool = True
) -> Callable[[Pixels], Features]:
    size = classifier.contract.image_size

    def graph() -> bytes:
        path = folder / "backbone.onnx"
        if not path.exists():
            write_atomic(path, export_network(on_cpu(body), size, "features"))
        return path.read_bytes()

    chosen = choose_device(device)
    return run_frozen(body, classifier.contract, chosen, graph if export else None)
