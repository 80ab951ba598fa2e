"""The structure of a network: its head, its blocks, and the shapes after pruning."""

import copy
import math
from collections.abc import Mapping

import timm
import torch
from timm.layers import ClassifierHead, SelectAdaptivePool2d
from torch import nn

from acclimate.errors import ModelFileError, reason
from acclimate.models.model_names import near_model_names
from acclimate.models.outputs import fit_auxiliary_heads


def head_names(network: nn.Module) -> tuple[str, ...]:
    """The names of the layers that compute logits: the last fully connected one.

    Distilled vision transformers have two heads, whose logits are averaged (Touvron et al. 2021,
    arXiv 2012.12877). With the same layer as both heads, the average is that layer on the mean of
    their features.

    Args:
        network: Any classifier.

    Returns:
        Dotted names, in the order of the network.

    Raises:
        ModelFileError: The network has no fully connected layer.
    """
    names: list[str] = [n for n, m in network.named_modules() if isinstance(m, nn.Linear)]
    config = getattr(network, "pretrained_cfg", None)
    declared = config.get("classifier") if isinstance(config, dict) else None
    if isinstance(declared, (tuple, list)) and set(declared) <= set(names):
        return tuple(declared)
    if isinstance(declared, str):
        # Otherwise a Linear of the backbone would silently be taken for the head.
        names = [n for n in names if n == declared or n.startswith(f"{declared}.")]
    if not names:
        raise ModelFileError(
            f"{type(network).__name__} has no fully connected layer to replace as its head.",
            hint="End the network with torch.nn.Linear.",
        )
    return (names[-1],)


def head(network: nn.Module) -> nn.Linear:
    """The layer that computes logits; the first one if there are two."""
    layer = network.get_submodule(head_names(network)[0])
    assert isinstance(layer, nn.Linear)
    return layer


def with_head(network: nn.Module, layer: nn.Module) -> nn.Module:
    """A copy of a network with another last layer; auxiliary heads get as many classes."""
    changed = copy.deepcopy(network)
    for name in head_names(changed):
        changed.set_submodule(name, layer)
    if isinstance(layer, nn.Linear):
        fit_auxiliary_heads(changed, layer.out_features)
    return changed


def with_linear_head(network: nn.Module) -> nn.Module:
    """Replaces a head that timm wrote as a 1x1 convolution by an equal fully connected layer.

    Args:
        network: Any network; changed in place.

    Returns:
        The network.
    """
    for module in network.modules():
        if isinstance(module, ClassifierHead) and isinstance(module.fc, nn.Conv2d):
            conv = module.fc
            layer = nn.Linear(conv.in_channels, conv.out_channels, bias=conv.bias is not None)
            with torch.no_grad():
                layer.weight.copy_(conv.weight.flatten(1))
                if conv.bias is not None:
                    layer.bias.copy_(conv.bias)
            pool = module.global_pool.pool_type
            module.global_pool = SelectAdaptivePool2d(pool_type=pool, flatten=True)
            module.fc, module.flatten, module.use_conv = layer, nn.Identity(), False
    return network


def check_head(network: nn.Module, input_shape: tuple[int, int, int]) -> None:
    """Checks that a network computes its logits by one fully connected layer on features.

    Args:
        network: In evaluation mode.
        input_shape: Channels, height and width in px.

    Raises:
        ModelFileError: It cannot be run, or replacing its last layer would not replace its head.
    """
    channels, image_size, _ = input_shape
    example = torch.linspace(-1, 1, 2 * math.prod(input_shape)).view(2, *input_shape)
    layer = nn.Linear(head(network).in_features, 3)
    kind = type(network).__name__
    try:
        with torch.inference_mode():
            logits = with_head(network, layer).eval()(example)
            expected = layer(backbone(network)(example))
            fits = torch.allclose(
                logits, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())
            )
    except Exception as error:  # any error of the network's own code
        raise ModelFileError(
            f"{kind} cannot be run on images of {image_size} px, float32 (2, {channels}, S, S) "
            f"({reason(error)})."
        ) from error
    if not fits:
        raise ModelFileError(
            f"{kind} does not compute its logits by one fully connected layer on features.",
            hint="Choose another network, or end yours with torch.nn.Linear.",
        )


def backbone(network: nn.Module) -> nn.Module:
    """A copy of a network that returns features, float32 (B, D), in place of logits."""
    return with_head(network, nn.Identity()).eval()


def blocks(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The network's blocks from input to head.

    Blocks are taken in the order of definition, which is the order of depth in the networks of
    timm and torchvision.

    Args:
        network: Any network.

    Returns:
        Dotted name and module of each block with weights.
    """
    parts: list[tuple[str, nn.Module]] = []

    def descend(module: nn.Module, prefix: str) -> None:
        for name, child in module.named_children():
            dotted = f"{prefix}{name}"
            if _holds_blocks(child):
                descend(child, f"{dotted}.")
            elif any(True for _ in child.parameters()):
                parts.append((dotted, child))

    descend(network, "")
    return parts


def _holds_blocks(module: nn.Module) -> bool:
    """Whether a module is a list of blocks, or a stage around one (ConvNeXt, Swin, RegNet)."""
    if isinstance(module, (nn.Sequential, nn.ModuleList)):
        return True
    if isinstance(getattr(module, "blocks", None), (nn.Sequential, nn.ModuleList)):
        return True
    parts = list(module.children())
    alike = len({type(part) for part in parts}) == 1
    return len(parts) > 1 and alike and any(True for _ in parts[0].children())


def set_input_size(network: nn.Module, image_size: int) -> None:
    """Changes the input size of a network that is built for one size.

    Vision transformers of timm interpolate their position embeddings. Networks that accept any
    size are not changed.

    Args:
        network: Any network; changed in place.
        image_size: px.
    """
    built_for = getattr(getattr(network, "patch_embed", None), "img_size", None)
    resize = getattr(network, "set_input_size", None)
    if callable(resize) and built_for not in (None, (image_size, image_size)):
        resize(img_size=(image_size, image_size))


def counts_beyond_shapes(network: nn.Module) -> dict[str, int]:
    """The groups of convolutions, which the shapes of pruned weights do not determine."""
    return {
        name: module.groups
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.groups > 1
    }


def create(
    architecture: str, num_classes: int, weights: Mapping[str, torch.Tensor] | None = None
) -> nn.Module:
    """Creates a timm architecture with random weights.

    Args:
        architecture: "timm:NAME".
        num_classes: Outputs of the head.
        weights: Weights that it will get: their first layer says how many channels the input has.

    Returns:
        The network in evaluation mode.

    Raises:
        ModelFileError: timm has no such name.
    """
    name = architecture.removeprefix("timm:")
    if not timm.is_model(name.split(".", 1)[0]):
        hint = near_model_names(name, timm.list_models())
        raise ModelFileError(f"timm has no architecture {name!r}. {hint}")
    try:
        network = timm.create_model(name, pretrained=False, num_classes=num_classes)
        channels = _channels_of(weights or {}, network)
        if channels != input_channels(network):
            network = timm.create_model(
                name, pretrained=False, num_classes=num_classes, in_chans=channels
            )
    except RuntimeError as error:
        raise ModelFileError(f"timm cannot build {name!r} ({reason(error)}).") from error
    return with_linear_head(network).eval()


def input_channels(network: nn.Module) -> int:
    """The channels of the images that a network takes: 3 unless its first convolution has 1."""
    name = _first_convolution(network)
    return 1 if name is not None and network.get_submodule(name).in_channels == 1 else 3


def _channels_of(weights: Mapping[str, torch.Tensor], network: nn.Module) -> int:
    first = weights.get(f"{_first_convolution(network)}.weight")
    return 3 if first is None else 1 if first.ndim == 4 and first.shape[1] == 1 else 3


def _first_convolution(network: nn.Module) -> str | None:
    """The name of the first convolution; None if there is none."""
    return next((n for n, m in network.named_modules() if isinstance(m, nn.Conv2d)), None)


def fit_to_shapes(
    network: nn.Module, weights: Mapping[str, torch.Tensor], counts: Mapping[str, int]
) -> None:
    """Resizes each layer to the shape of its weights.

    Args:
        network: Has the widths before pruning; changed in place.
        weights: Name to tensor.
        counts: Groups of the grouped convolutions.

    Raises:
        ModelFileError: A layer differs in a way that pruning cannot explain.
    """
    for name, module in network.named_modules():
        found = weights.get(f"{name}.weight")
        ours = getattr(module, "weight", None)
        if found is None or not isinstance(ours, torch.Tensor) or found.shape == ours.shape:
            continue
        if found.ndim != ours.ndim or found.numel() > ours.numel():
            raise ModelFileError(
                f"layer {name!r} has shape {tuple(found.shape)}, not within {tuple(ours.shape)}."
            )
        _resize(module, name, found, counts)


def _resize(module: nn.Module, name: str, weight: torch.Tensor, counts: Mapping[str, int]) -> None:
    wide = weight.shape[0]
    if isinstance(module, nn.Conv2d):
        module.groups = counts.get(name, 1)
        module.out_channels, module.in_channels = wide, weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, nn.BatchNorm2d):
        module.num_features = wide
        module.running_mean, module.running_var = torch.zeros(wide), torch.ones(wide)
    else:
        raise ModelFileError(f"layer {name!r} ({type(module).__name__}) cannot be resized.")
    module.weight = nn.Parameter(torch.empty(weight.shape))
    if isinstance(module.bias, torch.Tensor):
        module.bias = nn.Parameter(torch.empty(wide))
