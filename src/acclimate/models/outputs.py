"""The logits in what a network of the user returns: a tensor, a tuple, a mapping, a dataclass.

Some networks return more than logits, or wrap them: GoogLeNet and Inception v3 of torchvision
return named tuples with auxiliary logits in training, networks of transformers a dataclass. A hook
makes such a network return its main logits alone, so that nothing else has to know of it, and keeps
the auxiliary logits of the last training pass for the loss.
"""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import nn

from acclimate.errors import ModelFileError, reason

_MAIN = ("logits", "out")
_ONE_WEIGHT, _MORE_WEIGHT = 0.4, 0.3
"""Weight of the loss of one auxiliary head, and of each of several: those of Inception v3 (Szegedy
et al. 2015, arXiv 1512.00567, in the authors' implementation) and GoogLeNet (Szegedy et al. 2014,
arXiv 1409.4842)."""


def main_logits(output: object) -> torch.Tensor | None:
    """The logits in a network's output: what is called logits or out, or else the first tensor.

    Args:
        output: A tensor, or a tuple, list, mapping or dataclass that holds one.

    Returns:
        The tensor; None if there is none.
    """
    if isinstance(output, torch.Tensor):
        return output
    parts = _parts(output)
    named = [parts[name] for name in _MAIN if name in parts]
    for part in (*named, *parts.values()):
        found = main_logits(part)
        if found is not None:
            return found
    return None


def auxiliary_logits(output: object) -> list[torch.Tensor]:
    """The auxiliary logits in a network's output: other tensors of the shape of its main logits.

    Args:
        output: As for `main_logits`. Of named parts only those whose name begins with "aux" count.

    Returns:
        The tensors; none of them is the main one.
    """
    logits, parts = main_logits(output), _parts(output)
    if logits is None:
        return []
    found = [
        main_logits(part)
        for name, part in parts.items()
        if name.startswith("aux") or name.isdigit()
    ]
    return [a for a in found if a is not None and a is not logits and a.shape == logits.shape]


def _parts(output: object) -> dict[str, Any]:
    """Name to part of an output; the parts of a plain tuple are named by number."""
    if isinstance(output, Mapping):
        return {str(name): part for name, part in output.items()}
    if dataclasses.is_dataclass(output):
        names = [field.name for field in dataclasses.fields(output)]
        return {name: getattr(output, name) for name in names}
    if isinstance(output, (tuple, list)):
        names = list(getattr(output, "_fields", map(str, range(len(output)))))
        return dict(zip(names, output, strict=True))
    return {}


class _MainLogits:
    """A forward hook that returns the main logits, and keeps the others of a training pass."""

    def __init__(self) -> None:
        self.auxiliary: list[torch.Tensor] = []

    def __call__(self, module: nn.Module, inputs: object, output: object) -> torch.Tensor:
        logits = main_logits(output)
        if logits is None:
            kind = type(module).__name__
            raise ModelFileError(f"{kind} returns {type(output).__name__}, which has no logits.")
        self.auxiliary = auxiliary_logits(output) if module.training else []
        return logits

    def __deepcopy__(self, memo: object) -> Self:
        """A new hook: tensors of a graph cannot be copied."""
        return type(self)()


def return_logits(network: nn.Module, images: torch.Tensor) -> None:
    """Makes a network return its main logits alone, if it returns anything else.

    Args:
        network: A network of the user; changed in place by a forward hook.
        images: An input with two images, on the CPU.
    """
    if _hook(network) is None and not _returns_tensor(network, images):
        network.register_forward_hook(_MainLogits())


def check_training(network: nn.Module, images: torch.Tensor) -> None:
    """Checks that a network of the user can be run as in training, which may need larger images.

    Args:
        network: Any network; tried on a copy.
        images: A few inputs, on the CPU.

    Raises:
        ModelFileError: Its own code fails.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            copy.deepcopy(network).cpu().train()(torch.cat([images, images])[:2])
    except Exception as error:  # any error of the network's own code
        raise ModelFileError(
            f"{type(network).__name__} cannot be trained on images {tuple(images.shape[1:])}: in "
            f"training mode its code fails ({reason(error)})."
        ) from error


def return_everything(network: nn.Module) -> None:
    """Removes what `return_logits` added."""
    for key, hook in list(network._forward_hooks.items()):
        if isinstance(hook, _MainLogits):
            del network._forward_hooks[key]


def returns_more(network: nn.Module) -> bool:
    """Whether a network itself returns more than its logits, in training or always."""
    return _hook(network) is not None


def auxiliary_of(network: nn.Module) -> list[tuple[float, torch.Tensor]]:
    """The auxiliary logits of the last training pass, each with the weight of its loss.

    Args:
        network: Any network; its auxiliary logits are not kept any longer.

    Returns:
        None for most networks.
    """
    hook = _hook(network)
    if hook is None:
        return []
    found, hook.auxiliary = hook.auxiliary, []
    weight = _ONE_WEIGHT if len(found) == 1 else _MORE_WEIGHT
    return [(weight, logits) for logits in found]


def fit_auxiliary_heads(network: nn.Module, classes: int) -> None:
    """Gives the auxiliary heads of a network as many outputs as it has classes.

    Args:
        network: Changed in place; one that returns logits alone is not.
        classes: C.
    """
    if _hook(network) is None:
        return
    children = list(network.named_children())
    for prefix, part in [child for child in children if child[0].lower().startswith("aux")]:
        layers = [(n, m) for n, m in part.named_modules(prefix=prefix) if isinstance(m, nn.Linear)]
        if layers and layers[-1][1].out_features != classes:
            name, layer = layers[-1]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(classes)  # the same ones in every run
                new = nn.Linear(layer.in_features, classes, bias=layer.bias is not None)
            network.set_submodule(name, new)


def _hook(network: nn.Module) -> _MainLogits | None:
    hooks = network._forward_hooks.values()
    return next((hook for hook in hooks if isinstance(hook, _MainLogits)), None)


def _returns_tensor(network: nn.Module, images: torch.Tensor) -> bool:
    """Whether a network returns a tensor in training and in evaluation; tried on a copy."""
    trial = copy.deepcopy(network)
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            outputs = [trial.eval()(images), trial.train()(images)]
    except Exception:  # the network's own code fails; `check_training` and `check_head` say why
        return False
    return all(isinstance(output, torch.Tensor) for output in outputs)
