"""Exports networks to ONNX in tests, each architecture once.

The exporter takes seconds for the smallest network, and pruning, quantizing and every trained copy
export networks that differ from others in their weights alone, or in the number of channels,
classes and pixels. So an architecture is exported once, with random weights, and the initializers
of that graph are found among the weights by their values: as they are, transposed, with axes of one
element, or with a batch norm folded in. For other weights they are computed again, and the shapes
with them. A graph is used only if ONNX Runtime gives what the network gives. If that of the
architecture does not, because of the sizes, this very structure is exported, and if need be the
network with its own weights.
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
    what = (network, image_size, output, channels)
    general = folder / _architecture(network, output)
    new = not general.with_suffix(".json").exists()
    graph = _with_weights(general, *what)
    if not graph and not new and _sources(general):
        graph = _with_weights(folder / _key(*what, weights=False), *what)
    graph = graph or export_network(*what)
    with suppress(OutputError):  # some tests run on a disk that is full
        write_atomic(place, graph)
    return graph


SIZES = {
    "in_channels", "out_channels", "groups", "in_features", "out_features", "num_features",
    "num_classes", "in_chans", "in_chs", "out_chs",
}  # fmt: skip
"""What modules call the sizes of their weights."""


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


def _architecture(network: nn.Module, output: str) -> str:
    """Like `_key`, for all networks that differ in nothing but the sizes of weights and images."""
    key = hashlib.blake2b(output.encode(), digest_size=16)
    for name, module in network.named_modules():
        own = {
            k: v
            for k, v in vars(module).items()
            if isinstance(v, (bool, int, float, str, tuple)) and k not in SIZES
        }
        code = str(getattr(module, "code", ""))
        key.update(repr((name, type(module), sorted(own.items()), code)).encode())
    learnt = set(_learnt(network))
    for name, tensor in network.state_dict().items():
        key.update(repr((name, tensor.dtype, tensor.ndim)).encode())
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
    place: Path, network: nn.Module, image_size: int, output: str, channels: int
) -> bytes | None:
    """The graph of this place with these weights, if its initializers could be found.

    The first network for which it is asked is exported there.
    """
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
    sources = _sources(place)
    if sources is None:
        return None
    images = torch.rand(
        3, channels, image_size, image_size, generator=torch.Generator().manual_seed(0)
    )
    with torch.inference_mode():
        wanted = network(images).numpy()
    scale = 1e-4 * (1 + np.abs(wanted).max())
    try:
        model = onnx.load(place.with_suffix(".onnx"))
        graph = _filled(model, network, sources, images.shape, wanted.shape)
        given = open_session(graph, "cpu")(images.numpy())
    except Exception:  # ONNX and ONNX Runtime raise many types of errors for sizes that do not fit
        return None
    return graph if given.shape == wanted.shape and np.abs(given - wanted).max() < scale else None


def _sources(place: Path) -> dict[str, list[str]] | None:
    return json.loads(place.with_suffix(".json").read_text())


def _filled(
    model: onnx.ModelProto,
    network: nn.Module,
    sources: dict[str, list[str]],
    images: tuple[int, ...],
    outputs: tuple[int, ...],
) -> bytes:
    """A template with the weights of a network, for images and outputs of these shapes."""
    graph, values, modules = model.graph, _values(network), dict(network.named_modules())
    groups, changed = {}, False
    for tensor in graph.initializer:
        if tensor.name in sources:
            kind, *names = sources[tensor.name]
            found = _source(values, kind, *names)
            changed |= list(found.shape) != list(tensor.dims)
            tensor.CopyFrom(numpy_helper.from_array(found.astype(np.float32), tensor.name))
            groups[tensor.name] = getattr(modules.get(names[0].rpartition(".")[0]), "groups", None)
    for end, shape in ((graph.input[0], images), (graph.output[0], outputs)):
        for dim, size in zip(end.type.tensor_type.shape.dim[1:], shape[1:], strict=True):
            changed |= dim.dim_value != size
            dim.dim_value = size
    if changed:
        _resize_flattening(graph)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name == "group" and groups.get(node.input[1]):
                    attribute.i = groups[node.input[1]]
        del graph.value_info[:]
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    return bytes(model.SerializeToString())


def _resize_flattening(graph: onnx.GraphProto) -> None:
    """Gives each constant shape [-1, features] the number of features of the layer before it."""
    known = {tensor.name: tensor for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        shape = known.get(node.input[1]) if node.op_type == "Reshape" else None
        if shape is None or list(shape.dims) != [2]:
            continue
        before = node
        while before := makers.get(before.input[0]):
            weights = known.get(before.input[1]) if len(before.input) > 1 else None
            if weights is not None and weights.data_type == onnx.TensorProto.FLOAT:
                target = np.array([numpy_helper.to_array(shape)[0], weights.dims[0]])
                shape.CopyFrom(numpy_helper.from_array(target, shape.name))
                break


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
    if kind == "channelwise":
        return first.reshape(1, -1, 1, 1)
    return np.ascontiguousarray(first.T) if kind == "transposed" else first


def _find(values: Values, name: str, array: np.ndarray) -> list[str] | None:
    tries = [["plain", n] for n, v in values.items() if v.shape == array.shape]
    tries += [["transposed", n] for n, v in values.items() if v.shape == array.shape[::-1]]
    tries += [["channelwise", n] for n, v in values.items() if (1, *v.shape, 1, 1) == array.shape]
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
