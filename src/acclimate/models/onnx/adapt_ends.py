"""Adapts inputs and outputs of an ONNX file from another program to those of acclimate's.

Operations are added before and after the graph, which itself stays unchanged. The result maps
float32 images, (B, 3, S, S) or (B, 1, S, S), to logits, (B, C).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper
from onnx.compose import add_prefix

from acclimate.data.images.contract import InputContract
from acclimate.errors import ModelFileError, count, reason
from acclimate.models.onnx.file import parse_graph
from acclimate.models.runtime import create_session, session_runner
from acclimate.models.settings import OnnxFile

_BYTES = "tensor(uint8)"
_FLOATS = {
    "tensor(float)": onnx.TensorProto.FLOAT,
    "tensor(float16)": onnx.TensorProto.FLOAT16,
}
_NUMPY = {"tensor(float)": np.float32, "tensor(float16)": np.float16, _BYTES: np.uint8}
_SAMPLES = 8
"""Images of noise to detect probabilities with: eight rows of logits do not all sum to 1."""
_NEAR_ONE = 1e-2
"""Tolerance of the sum of probabilities in float16."""
_MIN_PROBABILITY = 1e-30
"""Lower bound of probabilities: a float32 whose logarithm is finite."""
_PREFIX = "given/"


@dataclass(frozen=True)
class AdaptedGraph:
    """A graph with adapted inputs and outputs.

    Attributes:
        graph: Input "images", float32 (B, 3 or 1, S, S); output "logits", float32 (B, C).
        contract: The input contract.
        notes: What was adapted, in whole sentences.
    """

    graph: bytes
    contract: InputContract
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _InputSpec:
    """The input of a graph."""

    name: str
    kind: str
    batch: int | None
    size: int
    channels: int
    channels_last: bool


@dataclass(frozen=True)
class _Step:
    """One operation with its optional second operand and its attributes."""

    operation: str
    operand: float | None = None
    attributes: dict[str, object] = field(default_factory=dict)


def adapt_ends(graph: bytes, described: OnnxFile) -> AdaptedGraph:
    """Adapts the input and the output of a graph.

    Args:
        graph: A graph from images to one number per class.
        described: Its description.

    Returns:
        The graph and its input contract.

    Raises:
        ModelFileError: It cannot be run, is not an image classifier, or does not fit the
            description.
    """
    session = create_session(graph, "cpu")
    given, output = _only(session.get_inputs(), session.get_outputs())
    input_spec = _read_input(given, described)
    contract = _contract(input_spec, described)
    if output.type not in _FLOATS:
        raise ModelFileError(f"the ONNX file returns {output.type}, not float32 or float16.")
    outputs = _outputs_on_noise(session, input_spec, contract)
    if outputs.shape[1] != len(described.classes):
        raise ModelFileError(
            f"the ONNX file has {outputs.shape[1]} classes, but the description names "
            f"{len(described.classes)}.",
            hint="Name all classes in the order of the outputs: `classes: [ant, bee]`.",
        )
    after = [_Step("Cast", attributes={"to": onnx.TensorProto.FLOAT})]
    notes = [f"The input of the original graph is {_shape_text(given)}."]
    if _are_probabilities(outputs, described):
        after += [_Step("Max", _MIN_PROBABILITY), _Step("Log")]
        notes.append(
            "The original graph returns probabilities; their logarithms are used as logits."
        )
    model = add_prefix(parse_graph(graph), _PREFIX)
    _join(model.graph, input_spec, _PREFIX + output.name, after, len(described.classes))
    return AdaptedGraph(bytes(model.SerializeToString()), contract, tuple(notes))


def _only(
    inputs: Sequence[ort.NodeArg], outputs: Sequence[ort.NodeArg]
) -> tuple[ort.NodeArg, ort.NodeArg]:
    if len(inputs) != 1 or len(outputs) != 1:
        names = [", ".join(one.name for one in ends[:5]) for ends in (inputs, outputs)]
        raise ModelFileError(
            f"the ONNX file has {len(inputs)} inputs ({names[0]}) and {len(outputs)} outputs "
            f"({names[1]}), not one of each.",
            hint="Extract the classifier with onnx.utils.extract_model.",
        )
    return inputs[0], outputs[0]


def _shape_text(given: ort.NodeArg) -> str:
    return f"{given.type} ({', '.join('?' if n is None else str(n) for n in given.shape)})"


def _read_input(given: ort.NodeArg, described: OnnxFile) -> _InputSpec:
    """Derives the kind of input from its shape and type."""
    shape = list(given.shape)
    fitting = given.type in _FLOATS or given.type == _BYTES
    ends = (shape[1], shape[3]) if len(shape) == 4 else ()
    channels = 3 if 3 in ends else 1
    if not fitting or channels not in ends:
        raise ModelFileError(
            f"the ONNX file takes {_shape_text(given)}, not images of three colors or of grey.",
            hint="The input must be float32, float16 or uint8, (B, 3, S, S) or (B, S, S, 3); grey "
            "images have 1 in place of 3.",
        )
    channels_last = shape[1] != channels
    size = _size(given, shape[1:3] if channels_last else shape[2:], described)
    batch = shape[0] if isinstance(shape[0], int) else None
    if batch not in (None, 1):
        raise ModelFileError(
            f"the ONNX file has a fixed batch size of {batch}.",
            hint="Export it with a dynamic batch dimension, or with a batch size of 1.",
        )
    return _InputSpec(given.name, given.type, batch, size, channels, channels_last)


def _size(given: ort.NodeArg, sides: Sequence[int | str | None], described: OnnxFile) -> int:
    """The side of the images in px: fixed in the graph, or else from the description."""
    own = {side for side in sides if isinstance(side, int)}
    if len(own) > 1:
        raise ModelFileError(f"the ONNX file takes {_shape_text(given)}, not square images.")
    size = own.pop() if own else described.image_size
    if size == "auto":
        raise ModelFileError(
            "the ONNX file takes images of any size.",
            hint="Give image_size in its description.",
        )
    if described.image_size not in ("auto", size):
        raise ModelFileError(
            f"the ONNX file takes images of {size} px, but image_size is {described.image_size}."
        )
    return size


def _contract(input_spec: _InputSpec, described: OnnxFile) -> InputContract:
    channels = input_spec.channels
    if input_spec.kind != _BYTES:
        mean = _for_channels("mean", described.mean, channels, described)
        std = _for_channels("std", described.std, channels, described)
        return InputContract(input_spec.size, mean, std, described.interpolation, described.crop)
    if {"mean", "std"} & described.model_fields_set:
        raise ModelFileError(
            "the ONNX file takes bytes from 0 to 255, which mean and std do not apply to.",
            hint="Remove mean and std from its description.",
        )
    plain = (0.0,) * channels, (1.0,) * channels
    return InputContract(input_spec.size, *plain, described.interpolation, described.crop)


def _for_channels(
    name: str, values: Sequence[float], channels: int, described: OnnxFile
) -> tuple[float, ...]:
    """The mean or std for the channels of a graph; ImageNet's are averaged for grey, as in timm."""
    if len(values) == channels:
        return tuple(values)
    if name not in described.model_fields_set:
        return (sum(values) / len(values),)
    numbers = "three numbers" if channels == 3 else "one number"
    raise ModelFileError(
        f"the ONNX file takes images of {count(channels, 'channel')}, so {name} must be {numbers}."
    )


def _pre_steps(input_spec: _InputSpec) -> list[_Step]:
    """The operations from float32 (B, C, S, S) to the input of the graph."""
    steps = []
    if input_spec.kind == _BYTES:
        # Adding 0.5 makes the cast round. Values of a resized image may lie outside [0, 1].
        steps += [_Step("Mul", 255.0), _Step("Add", 0.5), _Step("Max", 0.0), _Step("Min", 255.0)]
    kind = _FLOATS.get(input_spec.kind, onnx.TensorProto.UINT8)
    if kind != onnx.TensorProto.FLOAT:
        steps.append(_Step("Cast", attributes={"to": kind}))
    if input_spec.channels_last:
        steps.append(_Step("Transpose", attributes={"perm": [0, 2, 3, 1]}))
    return steps


def _join(
    body: onnx.GraphProto, input_spec: _InputSpec, output: str, after: Sequence[_Step], classes: int
) -> None:
    """Puts a graph between its new input and output."""
    inner, batch = _PREFIX + input_spec.name, input_spec.batch or "batch"
    nodes = list(body.node)
    pre = _chain(_pre_steps(input_spec), "images", inner, body)
    post = _chain(after, output, "logits", body)
    del body.node[:]
    body.node.extend([*pre, *nodes, *post])
    # Graphs from before 2019 list their weights as inputs too.
    weights = [one for one in body.input if one.name != inner]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, *shape])
        for name, shape in (
            ("images", (input_spec.channels, input_spec.size, input_spec.size)),
            ("logits", (classes,)),
        )
    ]
    del body.input[:], body.output[:]
    body.input.extend([ends[0], *weights])
    body.output.append(ends[1])


def _chain(
    steps: Sequence[_Step], begin: str, end: str, body: onnx.GraphProto
) -> list[onnx.NodeProto]:
    """Operations in sequence. Their operands become initializers of the graph."""
    nodes = []
    for index, step in enumerate(steps or [_Step("Identity")]):
        inputs = [f"{begin}/{index}" if index else begin]
        if step.operand is not None:
            inputs.append(f"{begin}/{index}/operand")
            value = helper.make_tensor(inputs[1], onnx.TensorProto.FLOAT, [], [step.operand])
            body.initializer.append(value)
        last = index + 1 >= len(steps)
        outputs = [end if last else f"{begin}/{index + 1}"]
        nodes.append(helper.make_node(step.operation, inputs, outputs, **step.attributes))
    return nodes


def _outputs_on_noise(
    session: ort.InferenceSession, input_spec: _InputSpec, contract: InputContract
) -> NDArray[np.float32]:
    """The outputs of the graph for images of noise, float32 (n, C)."""
    shape = (_SAMPLES, input_spec.size, input_spec.size, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    inputs = contract.normalize(noise)  # of mean 0 and std 1 for bytes
    if input_spec.kind == _BYTES:
        inputs = np.rint(inputs * 255)
    if input_spec.channels_last:
        inputs = inputs.transpose(0, 2, 3, 1)
    try:
        outputs = session_runner(session)(np.ascontiguousarray(inputs, _NUMPY[input_spec.kind]))
    except Exception as error:  # ONNX Runtime's own error types share no base but Exception
        raise ModelFileError(
            f"the ONNX file fails on images of {input_spec.size} px ({reason(error)})."
        ) from error
    if outputs.ndim != 2 or len(outputs) != _SAMPLES:
        raise ModelFileError(
            f"the ONNX file returns {outputs.shape} for {_SAMPLES} images, not a number per class."
        )
    return outputs


def _are_probabilities(outputs: NDArray[np.float32], described: OnnxFile) -> bool:
    if described.outputs != "auto":
        return described.outputs == "probabilities"
    within = bool((outputs >= 0).all() and (outputs <= 1 + _NEAR_ONE).all())
    return within and float(np.abs(outputs.sum(1) - 1).max()) <= _NEAR_ONE
