"""An ONNX file that somebody else wrote, brought to the form that ours have.

The graph itself stays as it is. What its ends lack is put before and after it, so that whatever
takes a classifier takes this one: float32 images (B, 3, S, S) in, logits (B, C) out.
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
from acclimate.errors import ModelFileError, reason
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
"""Images that tell probabilities from logits: no eight rows of logits all add up to 1."""
_NEAR_ONE = 1e-2
"""How far from 1 probabilities may add up in float16."""
_MIN_PROBABILITY = 1e-30
"""Of probabilities: float32 still holds it, and its logarithm is a number."""
_PREFIX = "given/"


@dataclass(frozen=True)
class AdaptedGraph:
    """A graph with our ends.

    Attributes:
        graph: Input "images", float32 (B, 3, S, S); output "logits", float32 (B, C).
        contract: What to do to pixels.
        notes: What was done, whole sentences.
    """

    graph: bytes
    contract: InputContract
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _InputSpec:
    """What a graph takes."""

    name: str
    kind: str
    batch: int | None
    size: int
    channels_last: bool


@dataclass(frozen=True)
class _Step:
    """One operation: its name, its second operand, its attributes."""

    operation: str
    operand: float | None = None
    attributes: dict[str, object] = field(default_factory=dict)


def adapt_ends(graph: bytes, described: OnnxFile) -> AdaptedGraph:
    """A foreign graph with the ends that ours have.

    Args:
        graph: Of one input of images and one output of numbers, one a class.
        described: What it does not say of itself.

    Returns:
        The graph, and the contract that fits it.

    Raises:
        ModelFileError: It cannot be run, is no image classifier, or is not as described.
    """
    session = create_session(graph, "cpu")
    given, output = _only(session.get_inputs(), session.get_outputs())
    input_spec = _read_input(given, described)
    contract = _contract(input_spec, described)
    if output.type not in _FLOATS:
        raise ModelFileError(f"ONNX file gives {output.type}, not float32 or float16.")
    outputs = _outputs_on_noise(session, input_spec, contract)
    if outputs.shape[1] != len(described.classes):
        raise ModelFileError(
            f"ONNX file knows {outputs.shape[1]} classes, and {len(described.classes)} are named.",
            hint="Name all of them in the order of its outputs: `classes: [ant, bee]`.",
        )
    after = [_Step("Cast", attributes={"to": onnx.TensorProto.FLOAT})]
    notes = [f"The graph was given with the input {_shape_text(given)}."]
    if _are_probabilities(outputs, described):
        after += [_Step("Max", _MIN_PROBABILITY), _Step("Log")]
        notes.append("Its outputs are probabilities: their logarithms are the logits.")
    model = add_prefix(parse_graph(graph), _PREFIX)
    _join(model.graph, input_spec, _PREFIX + output.name, after, len(described.classes))
    return AdaptedGraph(bytes(model.SerializeToString()), contract, tuple(notes))


def _only(
    inputs: Sequence[ort.NodeArg], outputs: Sequence[ort.NodeArg]
) -> tuple[ort.NodeArg, ort.NodeArg]:
    if len(inputs) != 1 or len(outputs) != 1:
        names = [", ".join(one.name for one in ends[:5]) for ends in (inputs, outputs)]
        raise ModelFileError(
            f"ONNX file has {len(inputs)} inputs ({names[0]}) and {len(outputs)} outputs "
            f"({names[1]}), not one of each.",
            hint="Cut the part out that classifies: onnx.utils.extract_model does it.",
        )
    return inputs[0], outputs[0]


def _shape_text(given: ort.NodeArg) -> str:
    return f"{given.type} ({', '.join('?' if n is None else str(n) for n in given.shape)})"


def _read_input(given: ort.NodeArg, described: OnnxFile) -> _InputSpec:
    """What the input is, from its shape and type."""
    shape = list(given.shape)
    fitting = given.type in _FLOATS or given.type == _BYTES
    if not fitting or len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise ModelFileError(
            f"ONNX file takes {_shape_text(given)}, not images of three colors.",
            hint="It must take float32, float16 or uint8, (B, 3, S, S) or (B, S, S, 3).",
        )
    channels_last = shape[1] != 3
    size = _size(given, shape[1:3] if channels_last else shape[2:], described)
    batch = shape[0] if isinstance(shape[0], int) else None
    if batch not in (None, 1):
        raise ModelFileError(
            f"ONNX file takes exactly {batch} images at once.",
            hint="Export it with a free batch dimension, or with a batch of 1.",
        )
    return _InputSpec(given.name, given.type, batch, size, channels_last)


def _size(given: ort.NodeArg, sides: Sequence[int | str | None], described: OnnxFile) -> int:
    """The side of the images in px: the graph's own, or the described one where that is free."""
    own = {side for side in sides if isinstance(side, int)}
    if len(own) > 1:
        raise ModelFileError(f"ONNX file takes {_shape_text(given)}, not square images.")
    size = own.pop() if own else described.image_size
    if size == "auto":
        raise ModelFileError(
            "ONNX file takes images of any size.", hint="Say image_size in its description."
        )
    if described.image_size not in ("auto", size):
        raise ModelFileError(
            f"ONNX file takes images of {size} px, and image_size is {described.image_size}."
        )
    return size


def _contract(input_spec: _InputSpec, described: OnnxFile) -> InputContract:
    if input_spec.kind != _BYTES:
        return InputContract(
            input_spec.size, described.mean, described.std, described.interpolation, described.crop
        )
    if {"mean", "std"} & described.model_fields_set:
        raise ModelFileError(
            "ONNX file takes bytes, 0 to 255, and no mean or std can be applied to these.",
            hint="Leave mean and std out of its description.",
        )
    plain = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return InputContract(input_spec.size, *plain, described.interpolation, described.crop)


def _pre_steps(input_spec: _InputSpec) -> list[_Step]:
    """From float32 (B, 3, S, S) to what the graph takes."""
    steps = []
    if input_spec.kind == _BYTES:
        # Casting cuts off: half a step makes it round. A resized view may reach beyond [0, 1].
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
    """Puts a graph between its new ends."""
    inner, batch = _PREFIX + input_spec.name, input_spec.batch or "batch"
    nodes = list(body.node)
    pre = _chain(_pre_steps(input_spec), "images", inner, body)
    post = _chain(after, output, "logits", body)
    del body.node[:]
    body.node.extend([*pre, *nodes, *post])
    # Graphs of before 2019 list their weights as inputs too.
    weights = [one for one in body.input if one.name != inner]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, *shape])
        for name, shape in (
            ("images", (3, input_spec.size, input_spec.size)),
            ("logits", (classes,)),
        )
    ]
    del body.input[:], body.output[:]
    body.input.extend([ends[0], *weights])
    body.output.append(ends[1])


def _chain(
    steps: Sequence[_Step], begin: str, end: str, body: onnx.GraphProto
) -> list[onnx.NodeProto]:
    """Operations one after the other; their operands are put among the graph's weights."""
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
    """What the graph says of images of noise, float32 (n, C)."""
    shape = (_SAMPLES, input_spec.size, input_spec.size, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    inputs = noise.transpose(0, 3, 1, 2) if input_spec.kind == _BYTES else contract.normalize(noise)
    if input_spec.channels_last:
        inputs = inputs.transpose(0, 2, 3, 1)
    try:
        outputs = session_runner(session)(np.ascontiguousarray(inputs, _NUMPY[input_spec.kind]))
    except Exception as error:  # ONNX Runtime's own error types share no base but Exception
        raise ModelFileError(
            f"ONNX file fails on images of {input_spec.size} px ({reason(error)})."
        ) from error
    if outputs.ndim != 2 or len(outputs) != _SAMPLES:
        raise ModelFileError(
            f"ONNX file gives {outputs.shape} for {_SAMPLES} images, not one number a class."
        )
    return outputs


def _are_probabilities(outputs: NDArray[np.float32], described: OnnxFile) -> bool:
    if described.outputs != "auto":
        return described.outputs == "probabilities"
    within = bool((outputs >= 0).all() and (outputs <= 1 + _NEAR_ONE).all())
    return within and float(np.abs(outputs.sum(1) - 1).max()) <= _NEAR_ONE
