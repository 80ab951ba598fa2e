"""Reads and loads weights. No code from a file is executed."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from acclimate.errors import ModelFileError, reason
from acclimate.files import digest_bytes


def digest_weights(network: nn.Module) -> str:
    """The digest of the names, shapes and values of a network's weights."""
    return digest_bytes(safetensors.torch.save(state_of(network)))


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Reads the tensors of a weights file. No code from the file is executed.

    Args:
        path: `.safetensors`, or a state dict that `torch.load(weights_only=True)` accepts.

    Returns:
        Name to tensor, on the CPU.

    Raises:
        ModelFileError: The file is not a weights file.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the parsers raise many types of errors
        raise ModelFileError(
            f"not a valid weights file ({reason(error)}).",
            where=path,
            hint="Give a .safetensors file, or a plain state dict saved with torch.save.",
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):  # the usual wrappings
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(
        isinstance(v, torch.Tensor) for v in loaded.values()
    ):
        raise ModelFileError("the file has no state dict (name to tensor).", where=path)
    return {str(name).removeprefix("module."): tensor for name, tensor in loaded.items()}


def load_strictly(network: nn.Module, weights: Mapping[str, torch.Tensor], where: Path) -> None:
    """Loads weights into a network. A missing, extra or misshapen tensor is an error.

    Args:
        network: Changed in place.
        weights: Name to tensor.
        where: Path for error messages.

    Raises:
        ModelFileError: The weights do not fit.
    """
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ModelFileError(
            f"weights do not fit the network ({reason(error, line=-1)}).", where=where
        ) from error


def state_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """Name to tensor, on the CPU, each with memory of its own."""
    # clone: safetensors refuses tensors that share memory, and some heads tie theirs
    return {n: t.detach().cpu().contiguous().clone() for n, t in network.state_dict().items()}
