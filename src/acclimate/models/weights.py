"""Reads and loads weights. No code from a file is executed."""

import argparse
import re
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
    loaded = load_checkpoint(path)
    if not isinstance(loaded, dict) or not all(
        isinstance(v, torch.Tensor) for v in loaded.values()
    ):
        raise ModelFileError("the file has no state dict (name to tensor).", where=path)
    return {str(name): tensor for name, tensor in loaded.items()}


def parse_weights(content: bytes, where: Path) -> dict[str, torch.Tensor]:
    """Reads the tensors of a safetensors file.

    Args:
        content: Of the file.
        where: Path for error messages.

    Returns:
        Name to tensor, on the CPU.

    Raises:
        ModelFileError: The content is not valid.
    """
    try:
        return dict(safetensors.torch.load(content))
    except Exception as error:  # the parser raises many types of errors
        raise ModelFileError(
            f"not a valid weights file ({reason(error)}).",
            where=where,
            hint="Copy the model again from its source.",
        ) from error


def load_checkpoint(path: Path) -> object:
    """Reads what a weights file holds. No code from the file is executed.

    Args:
        path: A file of safetensors, or one that `torch.load(weights_only=True)` accepts. timm's
            own checkpoints hold an `argparse.Namespace`, which is accepted too: a plain record.

    Returns:
        Tensors on the CPU, in whatever holds them.

    Raises:
        ModelFileError: The file is not a weights file, or it holds more than plain values.
    """
    try:
        if path.suffix.lower() == ".safetensors" or _is_safetensors(path):
            return dict(safetensors.torch.load_file(path))
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the parsers raise many types of errors
        raise ModelFileError(
            f"not a valid weights file ({_fault(error)}).",
            where=path,
            hint="Give a .safetensors file, or a plain state dict saved with torch.save.",
        ) from error


def _is_safetensors(path: Path) -> bool:
    """Whether a file starts as one of safetensors: the length of a JSON object, and its brace."""
    with path.open("rb") as stream:
        head = stream.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size


def _fault(error: Exception) -> str:
    """The reason in short; PyTorch's own message is a page about its defaults."""
    kind = _UNSAFE.search(str(error))
    if kind is None:
        return reason(error)
    return f"it holds {kind[1].rstrip('.')}, which could run code when it is loaded"


_UNSAFE = re.compile(r"(?:Unsupported global: GLOBAL|Unsupported class|GLOBAL) ([\w.]+)")


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
