"""Exports classifiers to ONNX, with their input contract in the metadata, and reads ONNX files."""

import copy
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.data.images.batches import ordered_batches
from acclimate.data.images.contract import InputContract
from acclimate.errors import AcclimateError, ModelFileError, RecipeError, reason
from acclimate.files import digest_bytes
from acclimate.models.classifier import Card, Classifier, StepRecord, plain, used_images_beside
from acclimate.models.device import on_cpu
from acclimate.models.onnx.adapt_ends import adapt_ends
from acclimate.models.onnx.file import read_graph
from acclimate.models.onnx.metadata import KEY_CLASSES, KEY_CONTRACT, KEY_SOURCE
from acclimate.models.onnx.metadata import read_metadata as read_metadata
from acclimate.models.onnx.standalone_check import rows_to_compare, standalone_agreement
from acclimate.models.runtime import run_onnx, run_torch
from acclimate.models.settings import Export, OnnxFile
from acclimate.settings import from_keywords
from acclimate.yaml12 import read_yaml

OPSET = 18
"""The lowest version that the exporter writes directly; all runtimes since 2023 read it."""
_DEFAULT = Export()
_HERE = Context()


def export(
    classifier: Classifier,
    dataset: Dataset,
    settings: Export = _DEFAULT,
    *,
    context: Context = _HERE,
) -> Classifier:
    """Exports a classifier to ONNX and compares the graph with PyTorch on real images.

    Args:
        classifier: Has a PyTorch network, or is already exported.
        dataset: Images to compare on: val, or any kept ones if there is no val split.
        settings: Number of images to compare.
        context: The run.

    Returns:
        The classifier with its ONNX graph.

    Raises:
        ModelFileError: The network cannot be exported, or the graph disagrees with it.
    """
    rows = rows_to_compare(dataset, settings.check_images)
    if classifier.network is None:
        if any("standalone_difference" in step.figures for step in classifier.card.steps):
            return classifier
        figures = standalone_agreement(classifier, dataset, rows, context)
        return classifier.after(StepRecord("export", plain(settings), figures))
    context.progress.info("export: writing the ONNX graph")
    exported = replace(classifier, graph=to_onnx(classifier))
    figures = agreement(exported, dataset, settings.check_images)
    if figures["same_predictions"] < 0.99:
        raise ModelFileError(
            f"the exported graph agrees with PyTorch on only {figures['same_predictions']:.1%} of "
            f"{figures['images']:.0f} images.",
            where=classifier.name,
        )
    context.progress.info(
        f"export: model.onnx agrees with PyTorch on {figures['same_predictions']:.1%} of "
        f"{figures['images']:.0f} images, largest difference {figures['max_difference']:.2g}"
    )
    figures |= standalone_agreement(exported, dataset, rows, context)
    step = StepRecord("export", plain(settings), figures)
    return classifier.after(step, graph=exported.graph)


def agreement(classifier: Classifier, dataset: Dataset, images: int) -> dict[str, float]:
    """Compares the graph with the network on real images.

    Args:
        classifier: Has both a network and a graph.
        dataset: Images to compare on: val, or any kept ones if there is no val split.
        images: Number of images.

    Returns:
        `images`, `max_difference` of a logit, `same_predictions` in [0, 1].
    """
    rows = rows_to_compare(dataset, images)
    torch_run, onnx_run = run_torch(classifier, "cpu"), run_onnx(classifier, "cpu")
    worst, same = 0.0, 0
    for batch in ordered_batches(dataset, rows, classifier.contract):
        a, b = torch_run(batch.images), onnx_run(batch.images)
        worst = max(worst, float(np.abs(a - b).max()))
        same += int((a.argmax(1) == b.argmax(1)).sum())
    return {
        "images": len(rows),
        "max_difference": worst,
        "same_predictions": same / len(rows),
    }


def to_onnx(classifier: Classifier) -> bytes:
    """Exports the network of a classifier, with contract and classes in the metadata.

    Args:
        classifier: Has a PyTorch network.

    Returns:
        The content of one ONNX file: input "images" float32 (B, 3, S, S) or
        (B, 1, S, S), output "logits" (B, C).

    Raises:
        ModelFileError: PyTorch cannot export the network.
    """
    network = on_cpu(copy.deepcopy(classifier.module()))
    contract = classifier.contract
    graph = EXPORTERS["onnx"](network, contract.image_size, "logits", contract.channels)
    return with_metadata(graph, classifier)


def with_metadata(graph: bytes, classifier: Classifier) -> bytes:
    """Writes a classifier's contract, classes and source into the metadata of a graph."""
    model = onnx.load_from_string(graph)
    del model.metadata_props[:]
    onnx.helper.set_model_props(
        model,
        {
            KEY_CONTRACT: json.dumps(classifier.contract.as_record()),
            KEY_CLASSES: json.dumps(classifier.classes, ensure_ascii=False),
            KEY_SOURCE: classifier.card.source,
        },
    )
    return bytes(model.SerializeToString())


def from_onnx(path: Path, described: OnnxFile | None = None) -> Classifier:
    """Reads a classifier from one ONNX file.

    Args:
        path: A file that acclimate exported, or one from another program with a description in
            `FILE.onnx.yaml` beside it.
        described: The description, which takes precedence over metadata and `FILE.onnx.yaml`.

    Returns:
        A classifier without a PyTorch network.

    Raises:
        ModelFileError: The file has neither metadata nor a description, is not an image
            classifier, or does not fit the description.
    """
    try:
        graph = read_graph(path)
        description = described or _description(path)
        if description is not None:
            return _from_foreign(graph, path, description)
        contract, classes = read_metadata(graph)
    except AcclimateError as error:
        raise ModelFileError(error.message, where=error.where or path, hint=error.hint) from error
    found = _as_classifier(graph, path, classes, contract)
    return replace(found, used_images=used_images_beside(path, graph))


def _as_classifier(
    graph: bytes, path: Path, classes: tuple[str, ...], contract: InputContract, *steps: StepRecord
) -> Classifier:
    precision = "int8" if is_quantized(graph) else "float32"
    card = Card(f"{path.name} {digest_bytes(graph)}", "unknown", steps=steps)
    return Classifier(f"module:{path.stem}", None, classes, contract, card, precision, graph)


def _from_foreign(graph: bytes, path: Path, description: OnnxFile) -> Classifier:
    if len(set(description.classes)) < len(description.classes):
        raise ModelFileError("classes has the same name twice.", where=path)
    adapted = adapt_ends(graph, description)
    step = StepRecord("read", plain(description), notes=adapted.notes)
    found = _as_classifier(adapted.graph, path, description.classes, adapted.contract, step)
    return replace(found, graph=with_metadata(adapted.graph, found))


def _description(path: Path) -> OnnxFile | None:
    """Reads the description beside an ONNX file."""
    place = path.with_name(f"{path.name}.yaml")
    if not place.is_file():
        return None
    try:
        return from_keywords(OnnxFile, read_yaml(place, "description")[0])
    except RecipeError as error:
        raise RecipeError(error.message, where=error.where or place, hint=error.hint) from error


def is_quantized(graph: bytes) -> bool:
    """Whether an ONNX file is quantized."""
    return any(node.op_type == "QuantizeLinear" for node in onnx.load_from_string(graph).graph.node)


def export_network(network: nn.Module, image_size: int, output: str, channels: int = 3) -> bytes:
    """Exports a network to ONNX with a dynamic batch dimension.

    Args:
        network: On the CPU, in evaluation mode.
        image_size: px.
        output: Name of the output.
        channels: 1 for grey images.

    Returns:
        The content of one ONNX file.

    Raises:
        ModelFileError: PyTorch cannot export the network.
    """
    example = torch.zeros(2, channels, image_size, image_size)
    try:
        with _silenced():
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=[output],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                verbose=False,
            )
    except Exception as error:  # the exporter raises many types of errors
        raise ModelFileError(
            f"{type(network).__name__} cannot be exported to ONNX ({reason(error)})."
        ) from error
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


@contextmanager
def _silenced() -> Iterator[None]:
    """Suppresses output and warnings of the exporter; its errors are still raised."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [log.level for log in loggers]
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for log in loggers:
            log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for log, level in zip(loggers, levels, strict=True):
                log.setLevel(level)


EXPORTERS: dict[str, Callable[[nn.Module, int, str, int], bytes]] = {"onnx": export_network}
"""Name to a function of (network, image size, name of the output, channels) that returns a file's
content."""
