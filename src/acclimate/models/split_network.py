"""Splits a network into its frozen part and its trainable part."""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import get_notrace_functions, get_notrace_modules
from torch import fx, nn

from acclimate.errors import reason
from acclimate.models.outputs import returns_more


class CannotSplitError(Exception):
    """A network cannot be split, for the reason in the message. Callers catch it."""


@dataclass(frozen=True)
class SplitNetwork:
    """A network as `suffix(prefix(images))`, made of the network's own layers.

    Attributes:
        prefix: float32 (B, 3, S, S) to activations. Frozen, and in evaluation mode.
        suffix: Activations to logits (B, C). It shares its weights with the network.
        shape: The shape of the activations of one image.
    """

    prefix: nn.Module
    suffix: nn.Module
    shape: tuple[int, ...]


def split_network(network: nn.Module, image_size: int, channels: int = 3) -> SplitNetwork:
    """Splits a network in front of its first trainable weights.

    The prefix is everything that depends on frozen weights only. It is found by tracing with
    torch.fx (Reed et al. 2021, arXiv 2112.08429), whatever the structure of the network.

    Args:
        network: On the CPU, with `requires_grad` off for frozen weights. Both parts share its
            layers.
        image_size: px.
        channels: 1 for grey images.

    Returns:
        The two parts.

    Raises:
        CannotSplitError: The first layer is trainable, the network cannot be traced, it computes
            a different graph in training than in evaluation, or several activations would cross.
    """
    if returns_more(network):
        raise CannotSplitError("it returns more than logits")
    graph = _traced(network)
    example = torch.zeros(2, channels, image_size, image_size)
    learning = _learning_nodes(network, graph)
    values = _values(network, graph, example)
    boundary = _smallest_boundary(network, graph, learning, values)
    if len(boundary) != 1:
        raise CannotSplitError(
            f"{len(boundary)} activations cross from the frozen to the trainable layers"
        )
    (node,) = boundary
    if node.op == "placeholder":
        raise CannotSplitError("its first layer is trainable")
    prefix, suffix = _cut_at(node, graph, learning)
    return SplitNetwork(
        fx.GraphModule(network, prefix, "Prefix").eval(),
        fx.GraphModule(network, suffix, "Suffix"),
        tuple(values[node].shape[1:]),
    )


def _cut_at(node: fx.Node, graph: fx.Graph, learning: set[fx.Node]) -> tuple[fx.Graph, fx.Graph]:
    """The nodes up to an activation, and the nodes after it."""
    needed, pending = {node}, [node]
    while pending:
        before = set(pending.pop().all_input_nodes) - needed
        needed |= before
        pending += before
    prefix, suffix = fx.Graph(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for step in graph.nodes:
        if step in needed:
            copies[step] = prefix.node_copy(step, copies.__getitem__)
    prefix.output(copies[node])
    copies = {node: suffix.placeholder("activations")}
    for step in graph.nodes:
        if step in learning:
            copies[step] = suffix.node_copy(step, copies.__getitem__)
    return prefix, suffix


def _traced(network: nn.Module) -> fx.Graph:
    """The network as a graph, which must be the same in training and in evaluation."""
    was_training = network.training
    arguments = inspect.signature(network.forward).parameters.values()
    defaults = {a.name: a.default for a in arguments if a.default is not a.empty}
    try:
        training, evaluation = (
            _Tracer().trace(network.train(mode), defaults) for mode in (True, False)
        )
    except Exception as error:  # tracing runs the network's own code with proxies
        raise CannotSplitError(f"it cannot be traced ({reason(error)})") from error
    finally:
        network.train(was_training)
    if str(training) != str(evaluation):
        raise CannotSplitError("its graph in training differs from its graph in evaluation")
    return evaluation


class _Tracer(fx.Tracer):
    """Does not trace into the layers and functions that timm excludes from tracing."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))
        self._leaves = tuple(get_notrace_modules())

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a layer is one node of the graph."""
        return isinstance(m, self._leaves) or super().is_leaf_module(m, module_qualified_name)


def _learning_nodes(network: nn.Module, graph: fx.Graph) -> set[fx.Node]:
    """The nodes that depend on a trainable weight."""
    learning: set[fx.Node] = set()
    for node in graph.nodes:
        learns = False
        if node.op == "call_module":
            module = network.get_submodule(str(node.target))
            learns = any(p.requires_grad for p in module.parameters())
        elif node.op == "get_attr":
            learns = bool(getattr(_attribute(network, str(node.target)), "requires_grad", False))
        if learns or any(before in learning for before in node.all_input_nodes):
            learning.add(node)
    return learning


def _attribute(network: nn.Module, name: str) -> Any:  # noqa: ANN401 - whatever is there
    found: Any = network
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _values(network: nn.Module, graph: fx.Graph, example: torch.Tensor) -> dict[fx.Node, Any]:
    """The value of every node for an example."""
    values: dict[fx.Node, Any] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401 - as the base class has it
            values[n] = super().run_node(n)
            return values[n]

    was_training = network.training
    try:
        with torch.inference_mode():
            # All values are kept until the end, because the boundary is not known yet.
            Recorder(fx.GraphModule(network.eval(), graph), garbage_collect_values=False).run(
                example
            )
    finally:
        network.train(was_training)
    return values


def _smallest_boundary(
    network: nn.Module, graph: fx.Graph, learning: set[fx.Node], values: dict[fx.Node, Any]
) -> tuple[fx.Node, ...]:
    """The fewest activations that cross, after moving cheap nodes to the trainable part.

    Sizes, constants and default arguments are moved to the nodes that use them. So are skip
    connections and the like, which would store the same activation twice.
    """
    while True:
        boundary = _boundary(graph, learning)
        to_move = {n for n in boundary if n.op == "get_attr" or not _is_activation(values[n])}
        if not to_move and len(boundary) > 1:
            to_move = {n for n in boundary if _is_plain(network, n)}
        if not to_move:
            return boundary
        learning |= to_move


def _is_activation(value: object) -> bool:
    """Whether a value has one row per image; the example has two images."""
    return isinstance(value, torch.Tensor) and value.ndim > 1 and len(value) == 2


def _is_plain(network: nn.Module, node: fx.Node) -> bool:
    """Whether a node has one input and no weights."""
    if len(node.all_input_nodes) != 1 or node.op == "get_attr":
        return False
    module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
    return module is None or not any(True for _ in module.parameters())


def _boundary(graph: fx.Graph, learning: set[fx.Node]) -> tuple[fx.Node, ...]:
    return tuple(
        n for n in graph.nodes if n not in learning and any(user in learning for user in n.users)
    )
