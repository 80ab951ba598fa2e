"""MixUp and CutMix: pairs of training images mixed, with their labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from acclimate.augmentation.policy import Policy

_Images = Any
"""uint8, (B, S, S, 3): an array in memory, or a tensor on a device."""


@dataclass(frozen=True)
class MixedBatch:
    """A batch of mixed images with soft labels.

    Attributes:
        images: uint8, (B, S, S, 3); a tensor if one was given.
        targets: float32, (B, C): each row sums to 1, minus the share of unlabelled images.
    """

    images: _Images
    targets: NDArray[np.float32]


def mixes(policy: Policy) -> bool:
    """Whether a policy applies MixUp or CutMix."""
    return policy.mixup > 0 or policy.cutmix > 0


def mix(
    images: _Images,
    labels: NDArray[np.int64],
    num_classes: int,
    policy: Policy,
    rng: np.random.Generator,
) -> MixedBatch:
    """Mixes a batch with a permutation of itself; with both methods on, each is used half the time.

    Args:
        images: uint8, (B, S, S, 3); a tensor is mixed on its device.
        labels: int64, (B,): class ids; -1 for unlabelled images.
        num_classes: C.
        policy: Its `mixup` and `cutmix` are the alphas of a Beta(alpha, alpha).
        rng: Samples the permutation, the share and the box.

    Returns:
        As many images as were given.
    """
    paste = policy.cutmix > 0 and (policy.mixup == 0 or rng.random() < 0.5)
    alpha = policy.cutmix if paste else policy.mixup
    share = float(rng.beta(alpha, alpha))
    other = rng.permutation(len(images))
    others = images[other] if isinstance(images, np.ndarray) else images[torch.from_numpy(other)]
    if paste:
        mixed, share = _cutmix(images, others, share, rng)
    else:
        mixed = _mixup(images, others, share)
    hard = np.eye(num_classes, dtype=np.float32)[labels]
    hard[labels < 0] = 0
    targets = np.float32(share) * hard + np.float32(1 - share) * hard[other]
    return MixedBatch(mixed, targets)


def _mixup(images: _Images, others: _Images, share: float) -> _Images:
    """MixUp (Zhang et al. 2017, arXiv 1710.09412): `share` of an image, the rest of another."""
    if isinstance(images, torch.Tensor):
        return (share * images.float() + (1 - share) * others.float()).round().to(torch.uint8)
    blend = np.float32(share) * images + np.float32(1 - share) * others
    return np.asarray(blend.round(), np.uint8)


def _cutmix(
    images: _Images, others: _Images, share: float, rng: np.random.Generator
) -> tuple[_Images, float]:
    """CutMix (Yun et al. 2019, arXiv 1905.04899), and the share of the image outside the box."""
    height, width = images.shape[1:3]
    h, w = (round(side * np.sqrt(1 - share)) for side in (height, width))
    top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
    pasted = images.clone() if isinstance(images, torch.Tensor) else images.copy()
    rows, columns = slice(int(top), int(top) + h), slice(int(left), int(left) + w)
    pasted[:, rows, columns] = others[:, rows, columns]
    return pasted, 1 - h * w / (height * width)
