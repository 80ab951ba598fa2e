"""Which parts of a network are trained; the others stay as they are, bit for bit."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from acclimate.context import Context, process_count
from acclimate.data.images.batches import in_order
from acclimate.errors import RecipeError
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.adapters import adapt
from acclimate.models.device import choose_device, on_cpu, on_device
from acclimate.models.heads import head_root
from acclimate.models.runtime import Normalizer
from acclimate.models.structure import blocks
from acclimate.training.batches.training_images import TrainingImages

_JUDGED_ON = 256


@dataclass(frozen=True)
class Question:
    """What a choice of parts may look at.

    Attributes:
        settings: How many blocks, which rank.
        views: The images; only those of train are looked at.
        context: Seed and device.
    """

    settings: FineTune
    views: TrainingImages
    context: Context


def freeze_layers(network: nn.Module, question: Question) -> str:
    """Freezes what is not to be trained. Changes the network.

    Below the lowest trained block no gradient is computed: nothing there asks for one.

    Args:
        network: With a fitted head.
        question: Settings and images.

    Returns:
        What is trained, in words.

    Raises:
        RecipeError: The choice cannot be made here.
    """
    told = TRAINABLE[question.settings.trainable](network, question)
    count = sum(p.numel() for p in network.parameters() if p.requires_grad)
    whole = sum(p.numel() for p in network.parameters())
    return f"{told}: {count:,} of {whole:,} numbers"


def _all(network: nn.Module, question: Question) -> str:
    return "all layers"


def _head(network: nn.Module, question: Question) -> str:
    _only(network, ())
    return "the head alone"


def _last(network: nn.Module, question: Question) -> str:
    names = [name for name, _ in body(network)][-question.settings.trainable_blocks :]
    _only(network, names)
    return f"the head and the last blocks ({', '.join(names)})"


def _surgical(network: nn.Module, question: Question) -> str:
    """The blocks with the longest gradients for their size (Lee et al. 2022, arXiv 2210.11466).

    Their relative gradient norm: blocks that the new data would change most, relative to what
    they hold. Where inputs look new these are the first ones, where labels are new the last.
    """
    if process_count() > 1:
        raise RecipeError(
            "trainable=surgical chooses its blocks in one process.",
            where="trainable",
            hint="With several, give trainable=last.",
        )
    norms = relative_gradients(network, question)
    keep = sorted(norms, key=norms.__getitem__, reverse=True)[: question.settings.trainable_blocks]
    names = [name for name, _ in body(network) if name in keep]
    _only(network, names)
    shown = ", ".join(f"{name} {norms[name]:.2g}" for name in names)
    return f"the head and the blocks of the largest relative gradient ({shown})"


def _lora(network: nn.Module, question: Question) -> str:
    settings = question.settings
    seed = question.context.seed_for("lora")
    adapted, whole = adapt(network, settings.lora_rank, settings.lora_alpha, seed)
    return (
        f"the head, adapters of rank {settings.lora_rank} on {adapted} layers, and {whole} layers "
        "that are no larger than an adapter"
    )


def relative_gradients(network: nn.Module, question: Question) -> dict[str, float]:
    """The length of each block's gradient over the length of its weights.

    Args:
        network: With a fitted head; unchanged.
        question: Up to 256 training images are looked at, without augmentation.

    Returns:
        Name of each block before the head to its figure, in depth order.
    """
    context, views = question.context, question.views
    rows = views.dataset.rows("train")
    rng = np.random.default_rng(context.seed_for("surgical"))
    rows = np.sort(rng.permutation(rows)[:_JUDGED_ON])
    device = choose_device(context.device)
    network = on_device(network, device).eval()
    to_input = Normalizer(views.contract, device)
    for batch in in_order(views.dataset, rows, views.contract, pictures=views.eval_pictures):
        logits = network(to_input(torch.from_numpy(batch.images)))
        targets = torch.from_numpy(batch.targets).to(device)
        torch.autograd.backward(functional.cross_entropy(logits, targets, reduction="sum"))
    norms = {name: _relative(module) for name, module in body(network)}
    network.zero_grad()
    on_cpu(network)
    return norms


def _relative(module: nn.Module) -> float:
    def length(tensors: list[torch.Tensor]) -> float:
        return math.sqrt(sum(float(t.square().sum()) for t in tensors))

    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    return length(gradients) / max(length([p.detach() for p in module.parameters()]), 1e-12)


def body(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The blocks before the head.

    Args:
        network: Any network.

    Returns:
        Dotted name and module of each, in depth order.
    """
    root = head_root(network)
    return [(n, m) for n, m in blocks(network) if n != root and not n.startswith(f"{root}.")]


def _only(network: nn.Module, names: tuple[str, ...] | list[str]) -> None:
    network.requires_grad_(False)
    for name in (*names, head_root(network)):
        network.get_submodule(name).requires_grad_(True)


TRAINABLE: dict[str, Callable[[nn.Module, Question], str]] = {
    "all": _all,
    "head": _head,
    "last": _last,
    "surgical": _surgical,
    "lora": _lora,
}
"""(network, question) to words; sets which weights ask for gradients."""
