"""Counts the multiply-adds of an ONNX graph."""

import math

import onnx


def count_macs(graph: bytes) -> int:
    """The multiply-adds of one image in convolutions and matrix products, quantized or not.

    Args:
        graph: The content of an ONNX file with a dynamic batch size, or one of 1.

    Returns:
        Their number. Layers whose shapes depend on the image are not counted.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph))
    known = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    shapes = {
        value.name: [d.dim_value or 1 for d in value.type.tensor_type.shape.dim] for value in known
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    return sum(_macs(node, shapes) for node in model.graph.node)


def _macs(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    """Outputs of a node times the products that each of them sums."""
    images, weights, output = (
        shapes.get(name) for name in (*[*node.input, "", ""][:2], [*node.output, ""][0])
    )
    if not images or not weights or output is None:
        return 0
    if node.op_type == "Conv":
        return math.prod(output) * math.prod(weights[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(images) * math.prod(weights[1:])
    if node.op_type in ("MatMul", "Gemm"):
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return math.prod(output) * (images[0] if transposed else images[-1])
    return 0
