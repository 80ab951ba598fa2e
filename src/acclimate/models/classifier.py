"""The classifier: a network with its classes, its input contract and its card."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import safetensors
import safetensors.torch
import torch
from torch import nn

from acclimate.arguments import checked
from acclimate.data.dataset import Dataset
from acclimate.data.images.contract import InputContract
from acclimate.data.images.given import AnyImages, images_of
from acclimate.data.images.standalone import PREPROCESS_FILE, preprocess_source
from acclimate.errors import ModelFileError, OutputError, count, listed
from acclimate.files import AnyPath, atomic_folder, digest_bytes, digest_json
from acclimate.models.card import Card as Card
from acclimate.models.card import StepRecord as StepRecord
from acclimate.models.card import plain as plain
from acclimate.models.card import read_card
from acclimate.models.class_statistics import ClassStatistics
from acclimate.models.heads import match_head
from acclimate.models.model_folder import (
    CURVES_FILE,
    STATISTICS_FILE,
    USED_IMAGES_FILE,
    ModelFolder,
    model_files,
)
from acclimate.models.model_folder import MODEL_FILE as MODEL_FILE
from acclimate.models.model_folder import ONNX_FILE as ONNX_FILE
from acclimate.models.model_folder import WEIGHTS_FILE as WEIGHTS_FILE
from acclimate.models.model_folder import is_model_folder as is_model_folder
from acclimate.models.model_folder import used_images_beside as used_images_beside
from acclimate.models.onnx.external_data import check_without_external_data
from acclimate.models.onnx.file import parse_graph
from acclimate.models.onnx.metadata import check_graph
from acclimate.models.outputs import fit_auxiliary_heads, return_logits
from acclimate.models.rebuild import build
from acclimate.models.structure import counts_beyond_shapes, fit_to_shapes
from acclimate.models.training_curves import curves_csv, plot_curve
from acclimate.models.used_images import UsedImages, united
from acclimate.models.weights import digest_weights, load_strictly, parse_weights, state_of
from acclimate.shown import Shown, as_frame

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from acclimate.models.predictions import Prediction

MAX_CLASSES = 100_000


@checked
@dataclass(frozen=True, repr=False)
class Classifier(Shown):
    """A network with its classes, its input contract and its card.

    >>> from acclimate import Classifier, probe
    >>> model = probe("efficientnet-lite0", "photos/", image_size=64)
    >>> model.save("leaf.model")
    >>> Classifier.load("leaf.model").digest == model.digest
    True

    Attributes:
        architecture: "timm:NAME", "torchvision:NAME", or "module:NAME" for a module of the user.
        network: The PyTorch network in evaluation mode; None if there is only an ONNX graph.
        classes: Class names, in the order of the logits.
        contract: How images are prepared for the network.
        card: The history of the classifier.
        precision: "float32" or "int8".
        graph: The content of an ONNX file, including contract and classes; None before export.
        statistics: Statistics of the features of each class; None if they were not measured. The
            digest excludes them, because the logits do not depend on them.
        used_images: Digests of the images that it was trained on or chosen by; None if they are not
            known. The digest excludes them.
    """

    architecture: str
    network: nn.Module | None = field(repr=False)
    classes: tuple[str, ...]
    contract: InputContract
    card: Card
    precision: str = "float32"
    graph: bytes | None = field(default=None, repr=False)
    statistics: ClassStatistics | None = field(default=None, repr=False, compare=False)
    used_images: UsedImages | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Checks that there is a network or a graph."""
        assert self.network is not None or self.graph is not None

    def summary(self) -> dict[str, str]:
        """What it is, in words."""
        named = {"parameters": f"{self.parameters / 1e6:.1f} M parameters"}
        return {
            "name": self.name,
            "classes": f"{count(len(self.classes), 'class', 'classes')}: {listed(self.classes, 3)}",
            "input": f"{self.contract.image_size} px",
            "precision": self.precision,
            **(named if self.parameters else {}),
            "steps": " > ".join(step.stage for step in self.card.steps) or "pretrained",
        }

    @property
    def curve(self) -> tuple[Mapping[str, float | None], ...]:
        """Figures of each epoch of the last training, the start first; empty without a training."""
        return next((step.curve for step in reversed(self.card.steps) if step.curve), ())

    def to_pandas(self) -> "pandas.DataFrame":
        """The training curve as a table of pandas."""
        return as_frame(self.curve)

    def plot(self) -> "Axes":
        """The training curve as axes of matplotlib."""
        return plot_curve(self.curve)

    @cached_property
    def digest(self) -> str:
        """The digest of everything that the logits depend on."""
        parts = [self.architecture, list(self.classes), self.contract.as_record(), self.precision]
        if self.network is None or self.precision != "float32":
            parts.append(digest_bytes(self.graph or b""))
        else:
            parts += [digest_weights(self.network), counts_beyond_shapes(self.network)]
        return digest_json(parts)

    @cached_property
    def opened(self) -> dict[str, Any]:
        """Device to the runtime that predictions were made with there; neither copied nor saved."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """What is copied and pickled: not the opened runtimes, which cannot be."""
        return {name: value for name, value in vars(self).items() if name != "opened"}

    def predict(
        self, images: AnyImages, *, top: int = 1, device: str = "auto"
    ) -> "list[Prediction]":
        """Classifies one image or many; see `acclimate.predict`.

        Args:
            images: A path or folder, bytes, a file, a Pillow image, a uint8 array, or a list,
                column or data set of these.
            top: How many classes to return for each image, the most probable first.
            device: "auto", "cpu", "cuda", …

        Returns:
            One prediction for each image.
        """
        from acclimate.models.predictions import kept_run, predictions

        return list(predictions(self, kept_run(self, device), images_of(images), top=top))

    @property
    def name(self) -> str:
        """A short name for tables and messages."""
        return self.architecture.split(":", 1)[-1]

    @property
    def parameters(self) -> int:
        """The number of parameters of the network; 0 if there is only a graph."""
        return 0 if self.network is None else sum(p.numel() for p in self.network.parameters())

    def module(self) -> nn.Module:
        """Returns the PyTorch network.

        Returns:
            The network itself. Copy it before changing it.

        Raises:
            ModelFileError: There is only an ONNX graph.
        """
        if self.network is None:
            if self.architecture.startswith("module:"):
                hint = "Load it from Python with Classifier.load(folder, network=...)."
            else:
                hint = (
                    "Use the float model that it was made of: the one given to quantize, or the "
                    "folder of the step before quantize in the run's folder."
                )
            raise ModelFileError(
                f"{self.name} ({self.precision}) has no PyTorch network, only an ONNX graph.",
                hint=hint,
            )
        return self.network

    def after(
        self,
        step: StepRecord,
        *,
        trained_on: Dataset | None = None,
        splits: Sequence[str] = ("train",),
        **changes: Any,  # noqa: ANN401 - fields of this class
    ) -> Self:
        """Returns a changed classifier with one more step in its card.

        Args:
            step: The step.
            trained_on: The training data, if the step trained.
            splits: The splits that it trained on.
            **changes: New values of fields.

        Returns:
            The new classifier.
        """
        card = replace(
            self.card,
            parent=self.digest,
            dataset=self.card.dataset if trained_on is None else trained_on.digest,
            steps=(*self.card.steps, step),
        )
        if trained_on is not None:
            changes["used_images"] = united(self.used_images, UsedImages.of(trained_on, splits))
        if "network" in changes and "graph" not in changes:
            changes["graph"] = None
        if "network" in changes and "statistics" not in changes:
            changes["statistics"] = None
        return replace(self, card=card, **changes)

    def save(self, folder: AnyPath) -> None:
        """Writes the classifier to a folder.

        The folder holds `model.json` and `model.safetensors`, and, if they exist, `model.onnx`
        with `preprocess.py`, `curve.csv`, `statistics.safetensors` and `used_images.safetensors`.

        Args:
            folder: The model folder; written completely before it is renamed into place.

        Raises:
            OutputError: The folder cannot be written.
        """
        with atomic_folder(Path(folder)) as part:
            self.write_into(part)

    def write_into(self, folder: AnyPath) -> None:
        """Writes the files into an existing folder."""
        folder = Path(folder)
        if not folder.is_dir():
            raise OutputError("no such folder.", where=folder, hint="Use save, which makes it.")
        for name, content in self.files().items():
            (folder / name).write_bytes(content)

    def files(self) -> dict[str, bytes]:
        """Name to content of the files of a model folder."""
        counts: dict[str, int] = {}
        parts: dict[str, bytes] = {}
        if self.network is not None and self.precision == "float32":
            # Not save_file, which hides a full disk behind its own type of error.
            parts[WEIGHTS_FILE] = safetensors.torch.save(state_of(self.network))
            counts = counts_beyond_shapes(self.network)
        if self.graph is not None:
            check_without_external_data(parse_graph(self.graph))
            parts[ONNX_FILE] = self.graph
            parts[PREPROCESS_FILE] = preprocess_source(self.contract).encode()
        if self.statistics is not None and self.network is not None:
            parts[STATISTICS_FILE] = self.statistics.as_bytes()
        if self.used_images is not None:
            parts[USED_IMAGES_FILE] = self.used_images.as_bytes()
        curves = curves_csv(self.card.steps)
        if curves is not None:
            parts[CURVES_FILE] = curves.encode()
        record = {
            "architecture": self.architecture,
            "classes": self.classes,
            "contract": self.contract.as_record(),
            "precision": self.precision,
            "counts": counts,
            "digest": self.digest,
            "card": asdict(self.card),
        }
        return model_files(record, parts)

    @classmethod
    def load(cls, folder: AnyPath, *, network: nn.Module | None = None) -> Self:
        """Reads a model folder. No code from the folder is executed.

        Args:
            folder: The model folder.
            network: The module to load the weights into, for a module of the user.

        Returns:
            The classifier.

        Raises:
            ModelFileError: The folder is incomplete, malformed or damaged.
        """
        return cls.from_content(ModelFolder.read(Path(folder)), network=network)

    @classmethod
    def from_content(cls, content: ModelFolder, *, network: nn.Module | None = None) -> Self:
        """Makes a classifier of the content of a model folder.

        Args:
            content: The files, which may come from a stranger.
            network: The module to load the weights into, for a module of the user.

        Returns:
            The classifier.

        Raises:
            ModelFileError: The content is incomplete, malformed or damaged.
        """
        folder, files, record = content.path, content.files, content.record()
        try:
            classes = tuple(str(c) for c in record["classes"])
            contract = InputContract.from_record(record["contract"])
            card = read_card(record["card"])
            architecture, precision = str(record["architecture"]), str(record["precision"])
            counts = {str(k): int(v) for k, v in record["counts"].items()}
            digest = str(record["digest"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelFileError(
                f"model.json is incomplete or malformed ({error!r}).", where=folder
            ) from error
        if not 1 <= len(classes) <= MAX_CLASSES:
            classes_text = count(len(classes), "class", "classes")
            raise ModelFileError(f"model has {classes_text}.", where=folder)
        network = _network(content, architecture, classes, contract, card, counts, network)
        graph = files.get(ONNX_FILE)
        if network is None and graph is None:
            raise _nothing_to_load(folder)
        if graph is not None:
            check_graph(graph, classes, contract, folder / ONNX_FILE)
        model = cls(
            architecture, network, classes, contract, card, precision, graph,
            statistics=content.statistics(len(classes)),
            used_images=content.used_images(),
        )  # fmt: skip
        # The digest of a module of the user can only be computed with the module.
        known = network is not None or precision != "float32" or WEIGHTS_FILE not in files
        if known and model.digest != digest:
            raise ModelFileError(
                "the weights do not match the digest in model.json: a file was changed or damaged.",
                where=folder,
                hint="Run the stage again, or copy the model again from its source.",
            )
        return model


def _network(
    content: ModelFolder,
    architecture: str,
    classes: Sequence[str],
    contract: InputContract,
    card: Card,
    counts: Mapping[str, int],
    own: nn.Module | None,
) -> nn.Module | None:
    """The network of a model folder with its weights; None if it has only a graph."""
    folder = content.path
    if WEIGHTS_FILE not in content.files:
        if own is None:
            return None
        raise ModelFileError(
            f"the model folder has no {WEIGHTS_FILE} to load into the module.", where=folder
        )
    weights = parse_weights(content.files[WEIGHTS_FILE], folder / WEIGHTS_FILE)
    if own is not None:
        return_logits(own, torch.zeros(2, *contract.input_shape))
        _load_into_own(weights, own, len(classes), card, counts, folder)
        return own.eval()
    if not architecture.startswith(("timm:", "torchvision:")):
        return None
    return build(architecture, len(classes), weights, counts, folder, contract.image_size)


def _nothing_to_load(folder: Path) -> ModelFileError:
    return ModelFileError(
        "the model folder has neither weights of a known architecture nor model.onnx.",
        where=folder,
        hint="Load a module of your own with its network: acclimate.load(folder, network=...).",
    )


def _load_into_own(
    weights: Mapping[str, torch.Tensor],
    network: nn.Module,
    classes: int,
    card: Card,
    counts: Mapping[str, int],
    where: Path,
) -> None:
    """Loads weights into a module of the user, and narrows it first if it was pruned."""
    match_head(network, weights, classes)
    fit_auxiliary_heads(network, classes)
    if any(step.stage == "prune" for step in card.steps):
        fit_to_shapes(network, weights, counts)
    load_strictly(network, weights, where)
