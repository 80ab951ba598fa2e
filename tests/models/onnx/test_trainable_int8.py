"""An int8 graph that learns: PyTorch computes what ONNX Runtime does, and that runs there."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import timm
import torch
from onnx import helper, numpy_helper
from torch import nn
from torch.nn import functional

from acclimate.compression.settings import Quantize
from acclimate.compression.static_int8 import SCHEMES, quantize_with
from acclimate.errors import ModelFileError
from acclimate.models.onnx.export import to_onnx
from acclimate.models.onnx.torch_operators import OPERATIONS
from acclimate.models.onnx.trainable_int8 import IntegerGraph, Weight
from acclimate.models.pretrained import wrap
from acclimate.models.structure import blocks, head
from kit import CONTRACT


class Small(nn.Module):
    """What quantized networks are made of: a stem, a depthwise layer beside a shortcut, a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.deep, self.wide = nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = functional.hardswish(self.stem(x))
        x = x + self.wide(functional.relu6(self.deep(x)))
        return self.head(x.mean((2, 3)))


def exported(make, dataset):
    """A classifier with its graph, whose head is loud enough to be told from rounding."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = replace(wrap(make(), CONTRACT), classes=dataset.classes)
    with torch.no_grad():
        head(model.module()).weight.mul_(50)
    return replace(model, graph=to_onnx(model))


def quantized(model, dataset, scheme=SCHEMES[2], **settings):
    return quantize_with(model, dataset, dataset.rows("train")[::20], Quantize(**settings), scheme)


@pytest.fixture(scope="module")
def small(dataset):
    return exported(Small, dataset)


@pytest.fixture(scope="module")
def graph(small, dataset):
    return quantized(small, dataset)


@pytest.fixture(scope="module")
def images(dataset):
    pixels = np.stack([CONTRACT.read(dataset.path(row)) for row in dataset.rows("test")[::4]])
    return CONTRACT.normalize(pixels)


def run(graph, images):
    # Operator by operator: what ONNX Runtime fuses may round otherwise.
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def integers(graph):
    tensors = onnx.load_from_string(graph).graph.initializer
    whole = [t for t in tensors if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1]
    return {t.name: numpy_helper.to_array(t) for t in whole}


def said(network, images):
    with torch.no_grad():
        return network(torch.from_numpy(images)).numpy()


def test_pytorch_says_what_onnx_runtime_says(graph, images):
    theirs = run(graph, images)
    assert np.ptp(theirs) > 1
    assert np.abs(said(IntegerGraph(graph), images) - theirs).mean() < 0.01 * theirs.std()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "few_layers"),
    [
        ("test_efficientnet", {}),
        ("test_byobnet", {}),
        ("test_vit", {"img_size": 32, "depth": 2}),
        ("test_convnext", {"depths": (1, 1, 1, 1)}),
    ],
)
def test_it_does_for_many_networks(name, few_layers, dataset, images):
    model = exported(lambda: timm.create_model(name, num_classes=10, **few_layers), dataset)
    graph = quantized(model, dataset)
    ours = said(IntegerGraph(graph), images)
    # One number at the border of two steps, and what follows differs: much in a transformer.
    assert np.corrcoef(ours.ravel(), run(graph, images).ravel())[0, 1] > 0.97


def test_what_has_not_learnt_is_written_back_as_it_was(graph):
    assert IntegerGraph(graph).graph() == onnx.load_from_string(graph).SerializeToString()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_bias_at_the_end_of_its_range_stays_there(sign):
    nearly = np.array([sign * 2_147_269_000, 10], np.int32)
    bias = Weight(nearly, np.full(2, 1e-9, np.float32), np.zeros(2, np.int32), 0)
    with torch.no_grad():
        bias.weight += sign * 0.001
    to_numbers = bias.to_numbers()
    assert abs(int(to_numbers[0]) - sign * 2**31) < 1000
    assert to_numbers[1] - 10 == pytest.approx(sign * 1e6, rel=1e-3)
    assert np.allclose(bias().detach().numpy(), to_numbers * 1e-9, rtol=1e-6)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_what_learnt_is_what_onnx_runtime_runs(scheme, small, dataset, images):
    before = quantized(small, dataset, scheme)
    network, inputs = IntegerGraph(before), torch.from_numpy(images)
    targets = torch.arange(len(inputs)) % 10
    rule = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        loss = functional.cross_entropy(network(inputs), targets)
        losses.append(loss.item())
        rule.zero_grad()
        loss.backward()
        rule.step()
    assert losses[-1] < 0.8 * losses[0]
    after, ours = network.graph(), said(network, images)
    assert np.abs(ours - run(before, images)).mean() > 0.2 * ours.std()
    assert np.abs(ours - run(after, images)).mean() < 0.02 * ours.std()
    # The same places and ranges, other numbers in them.
    old, new = integers(before), integers(after)
    assert old.keys() == new.keys()
    assert all((old[name] != new[name]).any() for name in old)
    most = max(int(np.abs(weight.astype(int)).max()) for weight in new.values())
    assert most <= (64 if scheme.reduce_range else 128)
    assert len(after) == len(before)


def test_a_head_that_stayed_float_learns_too(small, dataset):
    network = IntegerGraph(quantized(small, dataset, keep_head_float=True))
    kinds = [weight.kind for weight in network.weights.values() if weight.weight.ndim > 1]
    assert sorted(map(str, kinds)) == ["float32", "int8", "int8", "int8"]


def test_all_weights_are_one_part_of_the_network(graph):
    # A rate that falls with each layer would leave the first of so many without any.
    assert [name for name, _ in blocks(IntegerGraph(graph))] == ["weights"]


def test_an_operator_that_is_not_known_is_named(graph):
    model = onnx.load_from_string(graph)
    model.graph.node[-1].op_type = "Einsum"
    with pytest.raises(ModelFileError, match="operator Einsum is not supported for quantization"):
        IntegerGraph(model.SerializeToString())


def test_a_float_graph_has_nothing_to_learn_in(small):
    with pytest.raises(ModelFileError, match="has no 8-bit weights"):
        IntegerGraph(small.graph)


def test_padding_that_the_graph_leaves_to_the_runtime_is_refused(graph):
    model = onnx.load_from_string(graph)
    conv = next(n for n in model.graph.node if n.op_type == "Conv")
    conv.attribute.append(helper.make_attribute("auto_pad", "SAME_UPPER"))
    with pytest.raises(ModelFileError, match="this form of operator Conv is not supported"):
        IntegerGraph(model.SerializeToString())


def alone(kind, inputs, output, **attributes):
    """A graph of one operator in ONNX Runtime, and the same in PyTorch."""
    names = [f"x{i}" for i in range(len(inputs))]
    node = helper.make_node(kind, names, ["y"], **attributes)
    ends = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for n, x in zip(names, inputs, strict=True)
    ]
    last = helper.make_tensor_value_info("y", output, None)
    body = helper.make_graph([node], "g", ends, [last])
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    theirs = session.run(None, dict(zip(names, inputs, strict=True)))[0]
    told = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    return OPERATIONS[kind](told, *map(torch.from_numpy, inputs)).numpy(), theirs


RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 4, 7, 7)).astype(np.float32)
ROWS = RNG.normal(size=(3, 4)).astype(np.float32)


def f32(*shape):
    return RNG.normal(size=shape).astype(np.float32)


CASES = [
    ("Add", [X, f32(4, 1, 1)], {}),
    ("AveragePool", [X], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ("AveragePool", [X], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("BatchNormalization", [X, f32(4), f32(4), f32(4), np.abs(f32(4))], {"epsilon": 1e-3}),
    ("Clip", [X, np.array(-0.5, np.float32), np.array(0.5, np.float32)], {}),
    ("Concat", [X, X], {"axis": 1}),
    ("Conv", [X, f32(6, 2, 3, 3), f32(6)],
     {"group": 2, "pads": [0, 1, 2, 1], "strides": [2, 1], "dilations": [1, 2]}),
    ("Div", [X, np.array(2, np.float32)], {}),
    ("Erf", [X], {}),
    ("Expand", [f32(1, 3, 1), np.int64([2, 1, 5])], {}),
    ("Flatten", [X], {}),
    ("Flatten", [X], {"axis": 2}),
    ("Gather", [X, np.int64([[0, 2], [1, 1]])], {"axis": 1}),
    ("Gelu", [X], {}),
    ("Gelu", [X], {"approximate": "tanh"}),
    ("Gemm", [ROWS, f32(5, 4), f32(5)], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", [ROWS, f32(3, 2)], {"transA": 1}),
    ("GlobalAveragePool", [X], {}),
    ("HardSigmoid", [X], {"alpha": 1 / 6}),
    ("HardSwish", [X], {}),
    ("Identity", [X], {}),
    ("LayerNormalization", [ROWS, f32(4), f32(4)], {"epsilon": 1e-3}),
    ("MatMul", [X, f32(7, 3)], {}),
    ("MaxPool", [X], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ("Mul", [X, X], {}),
    ("Pow", [np.abs(X), np.array(3, np.float32)], {}),
    ("Range", [np.array(n) for n in (1, 9, 3)], {}),
    ("ReduceL2", [X, np.int64([1])], {}),
    ("ReduceL2", [X], {"keepdims": 0}),
    ("ReduceMean", [X, np.int64([2, 3])], {"keepdims": 0}),
    ("ReduceMean", [X], {}),
    ("Relu", [X], {}),
    ("Reshape", [X, np.int64([0, -1])], {}),
    ("Shape", [X], {"start": 1}),
    ("Sigmoid", [X], {}),
    ("Slice", [X, np.int64([1]), np.int64([2**63 - 1]), np.int64([2]), np.int64([2])], {}),
    ("Slice", [X, np.int64([0, -3]), np.int64([1, -1])], {}),
    ("Softmax", [X], {"axis": 1}),
    ("Sqrt", [np.abs(X)], {}),
    ("Squeeze", [f32(1, 3, 1), np.int64([2])], {}),
    ("Sub", [X, f32(7)], {}),
    ("Tanh", [X], {}),
    ("Transpose", [X], {"perm": [0, 2, 3, 1]}),
    ("Unsqueeze", [ROWS, np.int64([0, 3])], {}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "inputs", "attributes"), CASES)
def test_each_operator_computes_what_onnx_runtime_does(kind, inputs, attributes):
    whole = kind in ("Shape", "Range")
    output = onnx.TensorProto.INT64 if whole else onnx.TensorProto.FLOAT
    ours, theirs = alone(kind, inputs, output, **attributes)
    assert ours.shape == theirs.shape
    assert np.allclose(ours, theirs, atol=1e-5)


def test_no_operator_is_left_out():
    in_whole_graphs = {"QuantizeLinear", "DequantizeLinear"}
    assert {kind for kind, _, _ in CASES} == OPERATIONS.keys() - in_whole_graphs
