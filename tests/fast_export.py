"""Exports networks to ONNX in tests, each structure once.

The exporter takes seconds for the smallest network, and pruning, quantizing and every trained copy
export networks that differ from others in their weights alone. So a structure is exported once,
with random weights, and the initializers of that graph are found among the weights by their values:
as they are, transposed, or with a batch norm folded in. For other weights they are computed again.
A graph is used only if ONNX Runtime gives what the network gives; otherwise it is exported.
"""

import copy
import hashlib
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import torch
from filelock import FileLock
from onnx import numpy_helper
from torch import nn

from acclimate.errors import AcclimateError, OutputError
from acclimate.files import write_atomic
from acclimate.models.onnx.export import export_network
from acclimate.models.runtime import open_session


def export_once(
    folder: Path, network: nn.Module, image_size: int, output: str, channels: int = 3
) -> bytes:
    """Like `export_network`, with the graphs of earlier calls in a folder."""
    place = folder / _key(network, image_size, output, channels, weights=True)
    if place.exists():
        return place.read_bytes()
    graph = _with_weights(folder, network, image_size, output, channels)
    graph = graph or export_network(network, image_size, output, channels)
    with suppress(OutputError):  # some tests run on a disk that is full
        write_atomic(place, graph)
    return graph


def _key(network: nn.Module, image_size: int, output: str, channels: int, *, weights: bool) -> str:
    key = hashlib.blake2b(repr((network, image_size, output, channels)).encode(), digest_size=16)
    for name, module in network.named_modules():
        own = {k: v for k, v in vars(module).items() if isinstance(v, (bool, int, float, str))}
        key.update(repr((name, type(module), sorted(own.items()))).encode())
    learnt = set() if weights else set(_learnt(network))
    for name, tensor in network.state_dict().items():
        key.update(repr((name, tensor.dtype, tensor.shape)).encode())
        if name not in learnt:
            key.update(tensor.numpy().tobytes())
    return key.hexdigest()


def _norms(network: nn.Module) -> dict[str, nn.Module]:
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine
    }


def _learnt(network: nn.Module) -> list[str]:
    """The names of weights, and of the statistics of batch norm."""
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    found = [name for name, _ in network.named_parameters()]
    return found + [f"{name}.{part}" for name in _norms(network) for part in statistics]


def _with_weights(
    folder: Path, network: nn.Module, image_size: int, output: str, channels: int
) -> bytes | None:
    """The graph of this structure with these weights, if its initializers could be found."""
    place = folder / _key(network, image_size, output, channels, weights=False)
    with FileLock(f"{place}.lock"):
        if not place.with_suffix(".json").exists():
            try:
                graph, sources = _template(network, image_size, output, channels)
            except (AcclimateError, RuntimeError, NotImplementedError):
                graph, sources = b"", None
            try:
                write_atomic(place.with_suffix(".onnx"), graph)
                write_atomic(place.with_suffix(".json"), json.dumps(sources).encode())
            except OutputError:
                return None
    sources = json.loads(place.with_suffix(".json").read_text())
    if sources is None:
        return None
    model, values = onnx.load(place.with_suffix(".onnx")), _values(network)
    for tensor in model.graph.initializer:
        if tensor.name in sources:
            found = _source(values, *sources[tensor.name])
            tensor.CopyFrom(numpy_helper.from_array(found.astype(np.float32), tensor.name))
    graph = bytes(model.SerializeToString())
    images = torch.rand(
        3, channels, image_size, image_size, generator=torch.Generator().manual_seed(0)
    )
    with torch.inference_mode():
        wanted = network(images).numpy()
    given = open_session(graph, "cpu")(images.numpy())
    scale = 1e-4 * (1 + np.abs(wanted).max())
    return graph if given.shape == wanted.shape and np.abs(given - wanted).max() < scale else None


def _template(
    network: nn.Module, image_size: int, output: str, channels: int
) -> tuple[bytes, dict[str, list[str]] | None]:
    """The graph with random weights, and from which weights each initializer comes."""
    network = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(0)
    for name in _learnt(network):
        tensor = network.state_dict()[name]
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + 0.25)
    graph, values, sources = (
        export_network(network, image_size, output, channels),
        _values(network),
        {},
    )
    for tensor in onnx.load_from_string(graph).graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.size == 1 or array.dtype != np.float32:
            continue
        source = _find(values, tensor.name, array)
        if source is None:
            return b"", None
        sources[tensor.name] = source
    return graph, sources


Values = dict[str, np.ndarray]


def _values(network: nn.Module) -> Values:
    """The weights, and for each batch norm its factors and its shifts."""
    values = {n: t.double().numpy() for n, t in network.state_dict().items()}
    for name, module in _norms(network).items():
        factor = values[f"{name}.weight"] / np.sqrt(values[f"{name}.running_var"] + module.eps)
        shift = values[f"{name}.bias"] - values[f"{name}.running_mean"] * factor
        values |= {f"{name}/factor": factor, f"{name}/shift": shift}
    return values


def _source(values: Values, kind: str, *names: str) -> np.ndarray:
    first = values[names[0]]
    if kind == "folded":
        return first * values[names[1]].reshape(-1, *[1] * (first.ndim - 1))
    return np.ascontiguousarray(first.T) if kind == "transposed" else first


def _find(values: Values, name: str, array: np.ndarray) -> list[str] | None:
    tries = [["plain", n] for n, v in values.items() if v.shape == array.shape]
    tries += [["transposed", n] for n, v in values.items() if v.shape == array.shape[::-1]]
    if name in values and values[name].shape == array.shape:
        tries += [
            ["folded", name, n]
            for n, v in values.items()
            if n.endswith("/factor") and v.shape == array.shape[:1]
        ]
    for one in tries:
        if np.allclose(_source(values, *one), array, rtol=1e-4, atol=1e-6):
            return one
    return None
