"""A network with all that makes its numbers mean something: classes, input contract, card."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast

import safetensors
import safetensors.torch
import torch
from torch import nn

from acclimate.data.images.contract import InputContract
from acclimate.errors import DataError, ModelFileError, count, reason
from acclimate.files import atomic_folder, digest_bytes, digest_json, read_record, write_record
from acclimate.models.class_statistics import ClassStatistics
from acclimate.models.heads import match_head
from acclimate.models.rebuild import build
from acclimate.models.structure import counts_beyond_shapes, fit_to_shapes
from acclimate.models.training_curves import write_curves

FORMAT = 1
MODEL_FILE, WEIGHTS_FILE, ONNX_FILE = "model.json", "model.safetensors", "model.onnx"
CURVES_FILE, STATISTICS_FILE = "curve.csv", "statistics.safetensors"
MAX_CLASSES = 100_000


@dataclass(frozen=True)
class StepRecord:
    """What one stage did to a classifier.

    Attributes:
        stage: Its name.
        settings: With every default written out.
        figures: What it measured.
        notes: What a reader should know, whole sentences.
        curve: Of a training: figures an epoch, the start first.
    """

    stage: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    curve: tuple[Mapping[str, float | None], ...] = ()


@dataclass(frozen=True)
class Card:
    """Where a classifier comes from.

    Attributes:
        source: Of the pretrained weights.
        licence: Of the pretrained weights, or "unknown".
        parent: Digest of the classifier it was made from.
        dataset: Digest of the data it learnt from.
        steps: What was done, oldest first.
    """

    source: str
    licence: str
    parent: str | None = None
    dataset: str | None = None
    steps: tuple[StepRecord, ...] = ()


@dataclass(frozen=True)
class Classifier:
    """A network, its classes, its input contract and its card.

    Attributes:
        architecture: "timm:NAME", or "module:NAME" for a module of the user's own.
        network: In evaluation mode; None where only the ONNX graph can be run.
        classes: Names; logits stand in this order.
        contract: What the network expects of pixels.
        card: Where it comes from.
        precision: "float32" or "int8".
        graph: An ONNX file's bytes, with contract and classes inside; None before export.
        statistics: What features of each class are like; None where they were not measured. No
            logit depends on them, so the digest leaves them out.
    """

    architecture: str
    network: nn.Module | None = field(repr=False)
    classes: tuple[str, ...]
    contract: InputContract
    card: Card
    precision: str = "float32"
    graph: bytes | None = field(default=None, repr=False)
    statistics: ClassStatistics | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """A classifier that cannot be run in any way is a mistake of ours."""
        assert self.network is not None or self.graph is not None

    @cached_property
    def digest(self) -> str:
        """Stands for all that the logits depend on."""
        parts = [self.architecture, list(self.classes), self.contract.as_record(), self.precision]
        if self.network is None or self.precision != "float32":
            parts.append(digest_bytes(self.graph or b""))
        else:
            parts += [digest_weights(self.network), counts_beyond_shapes(self.network)]
        return digest_json(parts)

    @property
    def name(self) -> str:
        """Short, for tables and messages."""
        return self.architecture.split(":", 1)[-1]

    @property
    def parameters(self) -> int:
        """The number of weights of the network; 0 where only the graph is at hand."""
        return 0 if self.network is None else sum(p.numel() for p in self.network.parameters())

    def module(self) -> nn.Module:
        """The PyTorch network, for stages that train.

        Returns:
            The network itself: copy it before changing it.

        Raises:
            ModelFileError: There is only an ONNX graph.
        """
        if self.network is None:
            if self.architecture.startswith("module:"):
                hint = "Give the module to Classifier.load(folder, network=...) from Python."
            else:
                hint = "Use the folder of the stage before quantization."
            raise ModelFileError(
                f"{self.name} ({self.precision}) has no PyTorch network to work on.", hint=hint
            )
        return self.network

    def after(
        self,
        step: StepRecord,
        *,
        dataset: str | None = None,
        **changes: Any,  # noqa: ANN401 - fields of this class
    ) -> Self:
        """The classifier that a stage made of this one, with the step written in its card.

        Args:
            step: What was done.
            dataset: Digest of the data it learnt from.
            **changes: Fields of the classifier that are new.

        Returns:
            The new classifier.
        """
        card = replace(
            self.card,
            parent=self.digest,
            dataset=dataset or self.card.dataset,
            steps=(*self.card.steps, step),
        )
        if "network" in changes and "graph" not in changes:
            changes["graph"] = None
        if "network" in changes and "statistics" not in changes:
            changes["statistics"] = None
        return replace(self, card=card, **changes)

    def save(self, folder: Path) -> None:
        """Writes `model.json`, `model.safetensors`, and what there is of the others.

        `model.onnx` once exported, `curve.csv` once trained, `statistics.safetensors` where
        features were measured.

        Args:
            folder: Made whole, then renamed into place.

        Raises:
            OutputError: The place cannot be written.
        """
        with atomic_folder(folder) as part:
            self.write_into(part)

    def write_into(self, folder: Path) -> None:
        """Writes the files into a folder that stands."""
        counts: dict[str, int] = {}
        if self.network is not None and self.precision == "float32":
            # Not save_file: it hides a full disk in an error of its own.
            (folder / WEIGHTS_FILE).write_bytes(safetensors.torch.save(_weights(self.network)))
            counts = counts_beyond_shapes(self.network)
        if self.graph is not None:
            (folder / ONNX_FILE).write_bytes(self.graph)
        record = {
            "architecture": self.architecture,
            "classes": self.classes,
            "contract": self.contract.as_record(),
            "precision": self.precision,
            "counts": counts,
            "digest": self.digest,
            "graph": None if self.graph is None else digest_bytes(self.graph),
            "card": asdict(self.card),
        }
        if self.statistics is not None and self.network is not None:
            (folder / STATISTICS_FILE).write_bytes(self.statistics.as_bytes())
            record["statistics"] = self.statistics.digest
        write_record(folder / MODEL_FILE, FORMAT, record)
        write_curves(self.card.steps, folder / CURVES_FILE)

    @classmethod
    def load(cls, folder: Path, *, network: nn.Module | None = None) -> Self:
        """Reads what `save` wrote; runs no code from it.

        Args:
            folder: The model folder.
            network: The module to put the weights into, for a network of the user's own.

        Returns:
            The classifier.

        Raises:
            ModelFileError: The folder is incomplete, malformed, or does not fit its own digest.
        """
        record = _read_record(folder)
        try:
            classes = tuple(str(c) for c in record["classes"])
            contract = InputContract.from_record(record["contract"])
            card = _read_card(record["card"])
            architecture, precision = str(record["architecture"]), str(record["precision"])
            counts = {str(k): int(v) for k, v in record["counts"].items()}
            digest, graph_digest = str(record["digest"]), record["graph"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelFileError(
                f"model.json is incomplete or malformed ({error!r}).", where=folder
            ) from error
        if not 1 <= len(classes) <= MAX_CLASSES:
            classes_text = count(len(classes), "class", "classes")
            raise ModelFileError(f"model has {classes_text}.", where=folder)
        if (folder / WEIGHTS_FILE).exists():
            weights = read_weights(folder / WEIGHTS_FILE)
            if network is not None:
                match_head(network, weights, len(classes))
                _load_into_own(weights, network, card, counts, folder)
            elif architecture.startswith("timm:"):
                size = contract.image_size
                network = build(architecture, len(classes), weights, counts, folder, size)
        elif network is not None:
            raise ModelFileError(
                f"there is no {WEIGHTS_FILE} here to put into the module.", where=folder
            )
        graph = (folder / ONNX_FILE).read_bytes() if (folder / ONNX_FILE).exists() else None
        if network is None and graph is None:
            raise ModelFileError(
                "model folder has neither weights that can be rebuilt nor model.onnx.", where=folder
            )
        if network is not None:
            network = network.eval()
        statistics = _read_statistics(folder, record, len(classes))
        model = cls(architecture, network, classes, contract, card, precision, graph, statistics)
        # Without its module, a network of the user's own is known by its graph alone.
        known = network is not None or precision != "float32"
        whole = graph is None or digest_bytes(graph) == graph_digest
        if not whole or (known and model.digest != digest):
            raise ModelFileError(
                "weights do not fit the digest in model.json: a file was changed or damaged.",
                where=folder,
                hint="Make the model again, or take it from where it came.",
            )
        return model


def digest_weights(network: nn.Module) -> str:
    """The digest of a network's weights: names, shapes and values."""
    return digest_bytes(safetensors.torch.save(_weights(network)))


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a weights file; nothing in it is run.

    Args:
        path: `.safetensors`, or a state dict that `torch.load(weights_only=True)` accepts.

    Returns:
        Name to tensor, on the CPU.

    Raises:
        ModelFileError: The file is no such thing.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the parsers raise many kinds on a hostile or damaged file
        raise ModelFileError(
            f"file cannot be read as weights ({reason(error)}).",
            where=path,
            hint="Give a .safetensors file, or a plain state dict saved with torch.save.",
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):  # the usual wrappings
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(
        isinstance(v, torch.Tensor) for v in loaded.values()
    ):
        raise ModelFileError("file holds no state dict (name to tensor).", where=path)
    return {str(name).removeprefix("module."): tensor for name, tensor in loaded.items()}


def load_strictly(network: nn.Module, weights: Mapping[str, torch.Tensor], where: Path) -> None:
    """Puts weights into a network; a missing, extra or misshapen one is an error.

    Args:
        network: Changed in place.
        weights: Name to tensor.
        where: For the message.

    Raises:
        ModelFileError: They do not fit.
    """
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ModelFileError(
            f"weights do not fit the network ({reason(error, line=-1)}).", where=where
        ) from error


def _load_into_own(
    weights: Mapping[str, torch.Tensor],
    network: nn.Module,
    card: Card,
    counts: Mapping[str, int],
    where: Path,
) -> None:
    """Puts weights into a module of the user's; one that was pruned is narrowed first."""
    if any(step.stage == "prune" for step in card.steps):
        fit_to_shapes(network, weights, counts)
    load_strictly(network, weights, where)


def is_model_folder(path: Path) -> bool:
    """Whether a folder holds a classifier of ours."""
    return (path / MODEL_FILE).is_file()


def _weights(network: nn.Module) -> dict[str, torch.Tensor]:
    # clone: safetensors refuses tensors that share memory, and some heads tie theirs
    return {n: t.detach().cpu().contiguous().clone() for n, t in network.state_dict().items()}


def _read_record(folder: Path) -> dict[str, Any]:
    if not is_model_folder(folder):
        raise ModelFileError(
            "no model.json here.", where=folder, hint="Give the folder that a stage wrote."
        )
    try:
        return read_record(folder / MODEL_FILE, "model", FORMAT)
    except DataError as error:
        raise ModelFileError(error.message, where=error.where, hint=error.hint) from error


def _read_statistics(
    folder: Path, record: Mapping[str, Any], num_classes: int
) -> ClassStatistics | None:
    expected, path = record.get("statistics"), folder / STATISTICS_FILE
    if expected is None:
        return None
    content = path.read_bytes() if path.is_file() else b""
    if digest_bytes(content) != expected:
        raise ModelFileError(
            f"{STATISTICS_FILE} is not the one that model.json names: it was changed or lost.",
            where=folder,
            hint="Make the model again, or take it from where it came.",
        )
    return ClassStatistics.from_bytes(content, num_classes)


def _read_card(record: Mapping[str, Any]) -> Card:
    steps = tuple(
        StepRecord(
            s["stage"],
            dict(s["settings"]),
            dict(s["figures"]),
            tuple(s["notes"]),
            tuple(s["curve"]),
        )
        for s in record["steps"]
    )
    return Card(record["source"], record["licence"], record["parent"], record["dataset"], steps)


def plain(settings: Any) -> dict[str, Any]:  # noqa: ANN401 - any settings class
    """A settings object as plain JSON values, for a card."""
    return cast("dict[str, Any]", json.loads(settings.model_dump_json()))
