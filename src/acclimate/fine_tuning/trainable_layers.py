"""Which parts of a network are trained; the others stay as they are, bit for bit."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from acclimate.context import Context, process_count
from acclimate.data.images.batches import ordered_batches
from acclimate.errors import RecipeError
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.adapters import adapt
from acclimate.models.device import choose_device, on_cpu, on_device
from acclimate.models.heads import head_root
from acclimate.models.runtime import Normalizer
from acclimate.models.structure import blocks
from acclimate.training.batches.training_images import TrainingImages

_GRADIENT_IMAGES = 256


def freeze_layers(
    network: nn.Module, settings: FineTune, images: TrainingImages, context: Context
) -> str:
    """Freezes the weights that are not to be trained. Changes the network.

    Below the lowest trained block no gradient is computed, since nothing there requires one.

    Args:
        network: With a fitted head.
        settings: Which weights learn, how many blocks, which rank.
        images: The images; only training images are used.
        context: Seed and device.

    Returns:
        Which weights are trained, in words.

    Raises:
        RecipeError: The choice needs a single process.
    """
    description = TRAINABLE[settings.trainable](network, settings, images, context)
    count = sum(p.numel() for p in network.parameters() if p.requires_grad)
    whole = sum(p.numel() for p in network.parameters())
    return f"{description}: {count:,} of {whole:,} parameters"


def _all(network: nn.Module, settings: FineTune, images: TrainingImages, context: Context) -> str:
    return "all layers"


def _head(network: nn.Module, settings: FineTune, images: TrainingImages, context: Context) -> str:
    _train_only(network, ())
    return "the head only"


def _last(network: nn.Module, settings: FineTune, images: TrainingImages, context: Context) -> str:
    names = [name for name, _ in body_blocks(network)][-settings.trainable_blocks :]
    _train_only(network, names)
    return f"the head and the last blocks ({', '.join(names)})"


def _surgical(
    network: nn.Module, settings: FineTune, images: TrainingImages, context: Context
) -> str:
    """The blocks with the largest relative gradient norm (Lee et al. 2022, arXiv 2210.11466).

    These are the blocks that the new data would change most, relative to their weights. If the
    images look different these are the first blocks; if the labels are different, the last.
    """
    if process_count() > 1:
        raise RecipeError(
            "trainable=surgical chooses its blocks in one process.",
            where="trainable",
            hint="With several processes, use trainable=last.",
        )
    norms = relative_gradients(network, images, context)
    keep = sorted(norms, key=norms.__getitem__, reverse=True)[: settings.trainable_blocks]
    names = [name for name, _ in body_blocks(network) if name in keep]
    _train_only(network, names)
    shown = ", ".join(f"{name} {norms[name]:.2g}" for name in names)
    return f"the head and the blocks with the largest relative gradient ({shown})"


def _lora(network: nn.Module, settings: FineTune, images: TrainingImages, context: Context) -> str:
    seed = context.seed_for("lora")
    adapted, whole = adapt(network, settings.lora_rank, settings.lora_alpha, seed)
    return (
        f"the head, adapters of rank {settings.lora_rank} on {adapted} layers, and {whole} layers "
        "that are no larger than an adapter"
    )


def relative_gradients(
    network: nn.Module, images: TrainingImages, context: Context
) -> dict[str, float]:
    """The norm of each block's gradient divided by the norm of its weights.

    Args:
        network: With a fitted head; unchanged.
        images: Up to 256 training images are used, without augmentation.
        context: Seed and device.

    Returns:
        Name of each block before the head and its figure, in order of depth.
    """
    rows = images.dataset.rows("train")
    rng = np.random.default_rng(context.seed_for("surgical"))
    rows = np.sort(rng.permutation(rows)[:_GRADIENT_IMAGES])
    device = choose_device(context.device)
    network = on_device(network, device).eval()
    to_input = Normalizer(images.contract, device)
    for batch in ordered_batches(
        images.dataset, rows, images.contract, cached_images=images.eval_pictures
    ):
        logits = network(to_input(torch.from_numpy(batch.images)))
        targets = torch.from_numpy(batch.targets).to(device)
        torch.autograd.backward(functional.cross_entropy(logits, targets, reduction="sum"))
    norms = {name: _relative(module) for name, module in body_blocks(network)}
    network.zero_grad()
    on_cpu(network)
    return norms


def _relative(module: nn.Module) -> float:
    def length(tensors: list[torch.Tensor]) -> float:
        return math.sqrt(sum(float(t.square().sum()) for t in tensors))

    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    return length(gradients) / max(length([p.detach() for p in module.parameters()]), 1e-12)


def body_blocks(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The blocks before the head.

    Args:
        network: Any network.

    Returns:
        Dotted name and module of each, in order of depth.
    """
    root = head_root(network)
    return [(n, m) for n, m in blocks(network) if n != root and not n.startswith(f"{root}.")]


def _train_only(network: nn.Module, names: tuple[str, ...] | list[str]) -> None:
    network.requires_grad_(False)
    for name in (*names, head_root(network)):
        network.get_submodule(name).requires_grad_(True)


TRAINABLE: dict[str, Callable[[nn.Module, FineTune, TrainingImages, Context], str]] = {
    "all": _all,
    "head": _head,
    "last": _last,
    "surgical": _surgical,
    "lora": _lora,
}
"""(network, settings, images, context) to a description; sets `requires_grad` of the weights."""
