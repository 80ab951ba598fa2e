"""Weights files as teams have them: whose tensors they hold, and under which names."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from acclimate.errors import ModelFileError, count, listed
from acclimate.models.weights import load_checkpoint

log = logging.getLogger("acclimate")

_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
_WRAPPINGS = (*_AVERAGED, "state_dict", "model_state_dict", "model", "module", "net", "network")
"""Keys under which training programs keep the weights, averaged ones first, as timm does.

Source: `timm.models._helpers.load_state_dict`, version 1.0.
"""
_KNOWN_PREFIXES = ("module", "_orig_mod", "model", "timm_model", "backbone", "net", "network")
"""Parts of a name that wrappers put before it: DistributedDataParallel, `torch.compile`, Lightning
modules and classes around a network of timm."""
_MAX_DEPTH = 4


@dataclass(frozen=True)
class Weights:
    """The tensors of a file, under the names of the network.

    Attributes:
        tensors: Name to tensor, on the CPU.
        averaged: The key of averaged weights that were chosen; None if there were none.
    """

    tensors: dict[str, torch.Tensor]
    averaged: str | None = None


def read_for(names: Iterable[str], path: Path) -> Weights:
    """Reads the weights of a network from a file, whatever is wrapped around them.

    Logs a line for each choice: averaged weights, a prefix, tensors that are not used.

    Args:
        names: The names of the network's tensors.
        path: `.safetensors`, or what `torch.load(weights_only=True)` accepts.

    Returns:
        The weights.

    Raises:
        ModelFileError: The file is not a weights file, or its names are those of another network.
    """
    found = _unwrapped(load_checkpoint(path), path)
    if found.averaged is not None:
        log.warning(f"{path}: the averaged weights are used ({found.averaged}), as timm does")
    prefix = _prefix(found.tensors, set(names), path)
    if not prefix:
        return found
    own = {n.removeprefix(prefix): t for n, t in found.tensors.items() if n.startswith(prefix)}
    rest = len(found.tensors) - len(own)
    unused = f"; {count(rest, 'other tensor is', 'other tensors are')} not used" if rest else ""
    log.info(f"{path}: {prefix!r} is left out of the names of the weights{unused}")
    return Weights(own, found.averaged)


def _unwrapped(value: object, path: Path) -> Weights:
    averaged = None
    for _ in range(_MAX_DEPTH):
        if not isinstance(value, dict):
            break
        key = next((k for k in _WRAPPINGS if isinstance(value.get(k), dict)), None)
        if key is None:
            break
        averaged = averaged or (key if key in _AVERAGED else None)
        value = value[key]
    if isinstance(value, dict) and value:
        others = [f"{k!r} ({type(v).__name__})" for k, v in value.items() if not _is_tensor(v)]
        if not others:
            return Weights({str(name): tensor for name, tensor in value.items()}, averaged)
        if len(others) < len(value):
            raise ModelFileError(
                "the file has no state dict (name to tensor): "
                f"it also holds {', '.join(others[:3])}.",
                where=path,
                hint="Save the state dict alone: torch.save(network.state_dict(), FILE).",
            )
    raise ModelFileError("the file has no state dict (name to tensor).", where=path)


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def _prefix(tensors: Mapping[str, torch.Tensor], names: set[str], path: Path) -> str:
    """What stands before the network's own names; empty if nothing does.

    A name such as `module.model.conv1.weight` is looked up without each of its first parts.
    """
    fitting: Counter[str] = Counter()
    for name in tensors:
        parts = name.split(".")
        for depth in range(min(len(parts), _MAX_DEPTH + 1)):
            if ".".join(parts[depth:]) in names:
                fitting["".join(f"{part}." for part in parts[:depth])] += 1
    if not fitting:
        raise ModelFileError(
            f"the weights are of another network: their names begin with {_beginnings(tensors)}, "
            f"and those of this network with {_beginnings(names)}.",
            where=path,
            hint="Give the architecture that they were trained with.",
        )
    most = max(fitting.values())
    best = [prefix for prefix, number in fitting.items() if number == most]
    known = [p for p in best if set(p.split(".")[:-1]) <= set(_KNOWN_PREFIXES)]
    chosen = known or best
    if len(chosen) > 1 and "" not in chosen:
        raise ModelFileError(
            f"the file holds several networks: their names begin with {listed(sorted(chosen))}.",
            where=path,
            hint="Save the state dict of one of them: torch.save(network.state_dict(), FILE).",
        )
    return "" if "" in chosen else chosen[0]


def _beginnings(names: Iterable[str]) -> str:
    """The most frequent first parts of names."""
    first = Counter(f"{name.split('.')[0]}." if "." in name else name for name in names)
    return listed(sorted(first, key=lambda name: (-first[name], name)), most=3)
