"""Extracts features with the frozen backbone and caches them by image digest."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from acclimate.cache import usable_cache
from acclimate.context import Context
from acclimate.data.dataset import Dataset, Rows
from acclimate.data.images.batches import ordered_batches
from acclimate.data.images.contract import Pixels
from acclimate.errors import OutputError
from acclimate.features.store import (
    Features,
    FeatureStore,
    MemoryStore,
    StoredRows,
    store_lock,
)
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
) -> StoredRows | Features:
    """Extracts features and leaves them on disk, for data sets that do not fit into memory.

    Args:
        classifier: Only its backbone is used.
        dataset: Cleaned data set; the cache is keyed by image digest.
        rows: The images.
        context: The run, with the cache.
        intermediate: Append the intermediate features.

    Returns:
        n rows of D or D + M features, in the order of the rows; in memory if no disk can be
        written.

    Raises:
        ModelFileError: The network has no linear head, or cannot be exported.
    """
    classifier = in_range_of(dataset, classifier)
    body = WithIntermediateFeatures(backbone(classifier.module())).eval()
    size = feature_size(classifier)
    name = _name(classifier, body)
    whole = size + intermediate_size(body, *classifier.contract.input_shape[1::-1])
    digests = dataset.table["digest"].take(rows).to_pylist()
    columns = None if intermediate else size
    if (context.cache / name).is_dir():  # read even if nothing can be added
        kept = FeatureStore(context.cache / name, whole)
        if not kept.missing(digests):
            return kept.rows(digests, columns)
    place = usable_cache(context.cache)
    store: FeatureStore | MemoryStore = MemoryStore(whole)
    lock: AbstractContextManager[object] = nullcontext()
    if place is not None:
        store = FeatureStore(place / name, whole)
        lock = store.lock()
    with lock:
        store = _filled(store, classifier, body, dataset, rows, context)
    return store.rows(digests, columns)


def _filled(
    store: FeatureStore | MemoryStore,
    classifier: Classifier,
    body: nn.Module,
    dataset: Dataset,
    rows: Rows,
    context: Context,
) -> FeatureStore | MemoryStore:
    """A store with all rows: the given one, or one in memory if the disk becomes full."""
    contract = classifier.contract
    missing = np.asarray(store.missing(dataset.table["digest"].take(rows).to_pylist()), np.int64)
    if not len(missing):
        return store
    # Decided by the requested images, not by the missing ones, so that a resumed run computes
    # the same numbers.
    small = len(rows) * contract.image_size**2 < _EXPORT_FROM_PIXELS
    folder = store.folder if isinstance(store, FeatureStore) else None
    infer = _runner(classifier, body, folder, context.device, export=not small)
    with context.progress.task("features", len(missing)) as task:
        for batch in ordered_batches(dataset, rows[missing], contract, context=context):
            names, found = dataset.table["digest"].take(batch.rows).to_pylist(), infer(batch.images)
            try:
                store.add(names, found)
            except OutputError as error:
                assert isinstance(store, FeatureStore)
                context.progress.info(f"features are not kept: {error.where}: {error.message}")
                store = MemoryStore(store.dimension, store)
                store.add(names, found)
            task.advance(len(names))
    return store


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
    place, size = usable_cache(context.cache), feature_size(classifier)
    folder = None if place is None else place / _name(classifier, body)
    with nullcontext() if folder is None else store_lock(folder):
        infer = _runner(classifier, body, folder, context.device)
    return lambda images: infer(images)[:, :size]


def feature_size(classifier: Classifier) -> int:
    """The number of features that the head of a classifier takes."""
    return head(classifier.module()).in_features


def _name(classifier: Classifier, body: nn.Module) -> Path:
    """The folder within a cache for this backbone and input contract."""
    name = digest_json([digest_weights(body), classifier.contract.as_record()])
    return Path("features", name[:16])


def _runner(
    classifier: Classifier,
    body: nn.Module,
    folder: Path | None,
    device: str,
    *,
    export: bool = True,
) -> Callable[[Pixels], Features]:
    contract = classifier.contract

    def graph() -> bytes:
        path = None if folder is None else folder / "backbone.onnx"
        if path is not None and path.exists():
            return path.read_bytes()
        size, channels = contract.image_size, contract.channels
        exported = export_network(on_cpu(body), size, "features", channels)
        if path is not None:
            with suppress(OutputError):  # the disk became full: it is exported again next time
                write_atomic(path, exported)
        return exported

    chosen = choose_device(device)
    return run_frozen(body, contract, chosen, graph if export else None)
