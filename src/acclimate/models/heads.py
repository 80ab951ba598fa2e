"""The kinds of heads. The last layer of each is fully connected."""

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn import functional

from acclimate.errors import ModelFileError
from acclimate.models.outputs import fit_auxiliary_heads
from acclimate.models.structure import head, head_names

_HIDDEN = 512


class UnitLength(nn.Module):
    """Normalizes features to one length."""

    length: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        # A buffer, so that the digest of the weights differs from that of a network without this
        # layer. Otherwise the cached features of one would be used for the other.
        self.register_buffer("length", torch.ones(()))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Scales features, (B, D), to the length in the buffer."""
        return functional.normalize(features, dim=1) * self.length


class CosineHead(nn.Sequential):
    """Logits from the cosine between an image's features and each class's weight.

    Source: Gidaris and Komodakis 2018, arXiv 1804.09458. During training, `adapters.constrain`
    keeps all rows of the weight at one length; afterwards they are an ordinary layer.

    Args:
        features: D.
        classes: C.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(UnitLength(), nn.Linear(features, classes))


class MlpHead(nn.Sequential):
    """One hidden layer before the logits.

    Args:
        features: D.
        classes: C.
        hidden: Number of hidden units; None for the number of features, at most 512.
    """

    def __init__(self, features: int, classes: int, hidden: int | None = None) -> None:
        hidden = hidden or min(features, _HIDDEN)
        first = nn.Linear(features, hidden)
        super().__init__(first, nn.GELU(), nn.Linear(hidden, classes))


def _linear(features: int, classes: int) -> nn.Module:
    return nn.Linear(features, classes)


HEADS: dict[str, Callable[[int, int], nn.Module]] = {
    "linear": _linear,
    "cosine": CosineHead,
    "mlp": MlpHead,
}
"""Name to a function of (features, classes) that returns a head with random weights."""

_OWN: dict[str, type[nn.Sequential]] = {"cosine": CosineHead, "mlp": MlpHead}


def head_root(network: nn.Module) -> str:
    """The dotted name of the head, including hidden layers."""
    name = head_names(network)[0]
    parent = name.rpartition(".")[0]
    own = isinstance(network.get_submodule(parent), tuple(_OWN.values()))
    return parent if own else name


def head_kind(network: nn.Module) -> str:
    """The kind of a network's head, a name in `HEADS`."""
    root = network.get_submodule(head_root(network))
    return next((name for name, kind in _OWN.items() if isinstance(root, kind)), "linear")


def replace_head(network: nn.Module, kind: str, classes: int) -> None:
    """Replaces the head of a network by one with random weights.

    Args:
        network: Any classifier; changed in place.
        kind: A name in `HEADS`.
        classes: C.

    Raises:
        ModelFileError: The network has two heads, and the new head is not linear.
    """
    names = head_names(network)
    if len(names) > 1 and kind != "linear":
        raise ModelFileError(
            f"{type(network).__name__} has two heads, which a {kind} head cannot replace.",
            where="fine_tune.head",
            hint="Leave head at auto.",
        )
    root = head_root(network)
    linears = [m for m in network.get_submodule(root).modules() if isinstance(m, nn.Linear)]
    width = linears[0].in_features
    for name in names if len(names) > 1 else (root,):
        network.set_submodule(name, HEADS[kind](width, classes))
    fit_auxiliary_heads(network, classes)


def match_head(network: nn.Module, weights: Mapping[str, torch.Tensor], classes: int) -> None:
    """Gives a network the kind of head that some weights belong to.

    Args:
        network: Has a linear head and the widths before pruning; changed in place.
        weights: Name to tensor.
        classes: C.
    """
    root = head_root(network)
    if f"{root}.0.length" in weights and head_kind(network) != "cosine":
        replace_head(network, "cosine", classes)
    hidden = weights.get(f"{root}.0.weight")
    if hidden is not None and f"{root}.2.weight" in weights and head_kind(network) != "mlp":
        width = head(network).in_features
        network.set_submodule(root, MlpHead(width, classes, hidden.shape[0]))
