"""Augmentation operations on a whole batch, on its device.

All parameters are sampled beforehand (`parameters`), so an image becomes what it becomes alone
(`operations`), within one level of 255: each function here follows Pillow's computation. Images
are grouped by the operation at the same position of their lists; all affine ones form one group.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from acclimate.augmentation.operations import GREY
from acclimate.augmentation.parameters import Affine, Params, Patch
from acclimate.augmentation.sampled import AppliedOp, SampledTransform

BatchedOp = Callable[[torch.Tensor, Sequence[Params]], torch.Tensor]
"""uint8 (n, 3, H, W), and the parameters of each image, to uint8 (n, 3, H, W)."""

_ALMOST = 1 / 64
"""Added before fractions are cut off, in levels. Pillow computes in double precision; in single
precision, whole numbers sometimes come out a little too small."""
_PASSES = 3
"""Number of box filters in Pillow's Gaussian blur."""


def finish_batch(
    images: NDArray[np.uint8],
    transforms: Sequence[Sequence[SampledTransform]],
    device: torch.device,
) -> torch.Tensor:
    """Images with their sampled transforms applied.

    Args:
        images: Cropped and flipped, uint8, (b, S, S, 3).
        transforms: For each image, one per altered view; all images have equally many.
        device: The device of the result.

    Returns:
        uint8, (b, S, S, 3), on the device; of several views (b, V, S, S, 3), the plain one first.
    """
    plain = torch.from_numpy(images).to(device, non_blocking=True)
    altered = [apply_batch(plain, view) for view in zip(*transforms, strict=True)]
    return torch.stack([plain, *altered], 1) if len(altered) > 1 else altered[0]


def apply_batch(images: torch.Tensor, transforms: Sequence[SampledTransform]) -> torch.Tensor:
    """A batch with one transform applied to each image.

    Args:
        images: uint8, (b, S, S, 3). Not changed.
        transforms: One for each image.

    Returns:
        uint8, (b, S, S, 3), on the same device.
    """
    pixels = images.permute(0, 3, 1, 2).contiguous()
    pixels = _apply_ops(pixels, [one.ops for one in transforms])
    # All images of a policy have the same number of chains.
    chains = list(zip(*(one.chains for one in transforms), strict=True))
    if chains:
        blended = _column([one.image_weight for one in transforms], pixels) * pixels.float()
        for chain in chains:
            weights = _column([link.weight for link in chain], pixels)
            blended += weights * _apply_ops(pixels, [link.ops for link in chain]).float()
        pixels = _bytes(blended.round())
    pixels = _apply_ops(pixels, [one.last_ops for one in transforms])
    return pixels.permute(0, 2, 3, 1).contiguous()


def _apply_ops(pixels: torch.Tensor, ops: Sequence[Sequence[AppliedOp]]) -> torch.Tensor:
    for place in range(max(map(len, ops), default=0)):
        groups: dict[BatchedOp, list[int]] = {}
        for index, own in enumerate(ops):
            if place < len(own):
                groups.setdefault(BATCHED[own[place].name], []).append(index)
        groups.pop(identity, None)
        changed = pixels.clone()
        for apply, indices in groups.items():
            at = torch.tensor(indices, device=pixels.device)
            changed[at] = apply(pixels[at], [ops[index][place].params for index in indices])
        pixels = changed
    return pixels


def identity(pixels: torch.Tensor, params: Sequence[Params]) -> torch.Tensor:
    """Returns the images as they are."""
    return pixels


def affine(pixels: torch.Tensor, params: Sequence[Affine]) -> torch.Tensor:
    """Rotates, shears or shifts, with a grey fill: a grid per image, one sampling for all."""
    height, width = pixels.shape[2:]
    maps = torch.tensor([_inverse(one, height, width) for one in params], dtype=torch.float32)
    rows = maps.to(pixels.device)[..., None, None]  # (n, 2, 3, 1, 1)
    x = torch.arange(width, device=pixels.device)[None, None, :] + 0.5
    y = torch.arange(height, device=pixels.device)[None, :, None] + 0.5
    # Where each pixel comes from, in px from the upper left corner: (n, H, W) each.
    from_x, from_y = (rows[:, i, 0] * x + rows[:, i, 1] * y + rows[:, i, 2] for i in (0, 1))
    grid = torch.stack([2 * from_x / width - 1, 2 * from_y / height - 1], 3)
    found = functional.grid_sample(
        pixels.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    inside = (from_x >= 0) & (from_x < width) & (from_y >= 0) & (from_y < height)
    return _bytes(torch.where(inside[:, None], found + _ALMOST, float(GREY)))


def _inverse(params: Affine, height: int, width: int) -> list[list[float]]:
    """Torchvision's inverse affine matrix, which maps output to input pixels: rows of (x, y, 1)."""
    turn, sx, sy = (math.radians(a) for a in (params.angle, params.shear_x, params.shear_y))
    a, c = math.cos(turn - sy) / math.cos(sy), math.sin(turn - sy) / math.cos(sy)
    b, d = -a * math.tan(sx) - math.sin(turn), -c * math.tan(sx) + math.cos(turn)
    # The determinant is 1: the scale does not change.
    middle_x, middle_y = width / 2, height / 2
    away_x, away_y = middle_x + params.right, middle_y + params.down
    return [
        [d, -b, middle_x - d * away_x + b * away_y],
        [-c, a, middle_y + c * away_x - a * away_y],
    ]


def adjust_brightness(pixels: torch.Tensor, factors: Sequence[float]) -> torch.Tensor:
    """Makes images darker or brighter."""
    return _from(torch.zeros((), device=pixels.device), pixels, factors)


def adjust_saturation(pixels: torch.Tensor, factors: Sequence[float]) -> torch.Tensor:
    """Makes colors paler or stronger."""
    return _from(_grey(pixels).float(), pixels, factors)


def adjust_contrast(pixels: torch.Tensor, factors: Sequence[float]) -> torch.Tensor:
    """Lowers or raises the contrast."""
    grey = _grey(pixels)
    total, count = grey.sum((1, 2, 3), dtype=torch.int64), grey[0].numel()
    mean = (2 * total + count) // (2 * count)  # rounded
    return _from(mean.float()[:, None, None, None], pixels, factors)


def adjust_sharpness(pixels: torch.Tensor, factors: Sequence[float]) -> torch.Tensor:
    """Makes images softer or sharper; the outermost pixels stay."""
    soft = pixels.float()
    if min(pixels.shape[2:]) > 2:
        kernel = torch.ones(3, 1, 3, 3, device=pixels.device)
        kernel[:, :, 1, 1] = 5
        summed = functional.conv2d(soft, kernel, groups=3)
        soft = soft.clone()
        soft[..., 1:-1, 1:-1] = (summed / 13 + 0.5).floor()
    return _from(soft, pixels, factors)


def posterize(pixels: torch.Tensor, bits: Sequence[int]) -> torch.Tensor:
    """Reduces the bits per channel."""
    masks = torch.tensor([256 - (1 << (8 - kept)) for kept in bits], device=pixels.device)
    return pixels & masks.to(torch.uint8)[:, None, None, None]


def solarize(pixels: torch.Tensor, thresholds: Sequence[float]) -> torch.Tensor:
    """Inverts all values from a threshold on."""
    return torch.where(pixels.float() < _column(thresholds, pixels), pixels, 255 - pixels)


def autocontrast(pixels: torch.Tensor, apply: Sequence[bool]) -> torch.Tensor:
    """Stretches each channel to the whole range, for the images where `apply` is true."""
    levels = pixels.float()
    low, high = levels.amin((2, 3), keepdim=True), levels.amax((2, 3), keepdim=True)
    scale = 255 / (high - low).clamp_min(1)
    wide = torch.where(high > low, (levels - low) * scale + _ALMOST, levels)
    return torch.where(_flags(apply, pixels), _bytes(wide), pixels)


def equalize(pixels: torch.Tensor, apply: Sequence[bool]) -> torch.Tensor:
    """Equalizes the histogram of each channel, for the images where `apply` is true."""
    count, channels = pixels.shape[:2]
    levels = pixels.flatten(2).long()  # (n, 3, H * W)
    ones = torch.ones_like(levels)
    counts = torch.zeros(count, channels, 256, dtype=torch.int64, device=pixels.device)
    counts.scatter_add_(2, levels, ones)
    brightest = counts.gather(2, levels.amax(2, keepdim=True))  # pixels of the highest level
    step = (levels.shape[2] - brightest) // 255
    below = counts.cumsum(2) - counts
    table = ((step // 2 + below) // step.clamp_min(1)).clamp(max=255)
    flat = table.gather(2, levels).view_as(pixels).to(torch.uint8)
    changes = _flags(apply, pixels) & (step > 0)[..., None]
    return torch.where(changes, flat, pixels)


def invert(pixels: torch.Tensor, apply: Sequence[bool]) -> torch.Tensor:
    """Inverts the images where `apply` is true."""
    return torch.where(_flags(apply, pixels), 255 - pixels, pixels)


def gaussian_blur(pixels: torch.Tensor, sigmas: Sequence[float]) -> torch.Tensor:
    """Blurs by three box filters along rows, then three along columns, of each image's width."""
    boxes = [_blur_box(sigma) for sigma in sigmas]
    reach = max(len(box) // 2 for box in boxes)
    padded = np.stack([np.pad(box, reach - len(box) // 2) for box in boxes])
    weights = torch.from_numpy(padded).to(pixels.device)
    count, channels, height, width = pixels.shape
    weights = weights.repeat_interleave(channels, 0)[:, None, None, :]  # (n * 3, 1, 1, K)
    maps = pixels.float().view(1, count * channels, height, width)
    for box, edges in (
        (weights, (reach, reach, 0, 0)),
        (weights.transpose(2, 3), (0, 0, reach, reach)),
    ):
        for _ in range(_PASSES):
            wide = functional.pad(maps, edges, mode="replicate")
            maps = functional.conv2d(wide, box, groups=count * channels).add(0.5).floor()
    return _bytes(maps.view_as(pixels))


def _blur_box(sigma: float) -> NDArray[np.float32]:
    """Pillow's extended box filter, with fractional ends (Gwosdek et al. 2011)."""
    variance = sigma * sigma / _PASSES
    whole = math.floor((math.sqrt(12 * variance + 1) - 1) / 2)
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance)
    part /= 6 * (variance - (whole + 1) ** 2)
    box = np.ones(2 * whole + 3, np.float32)
    box[[0, -1]] = part
    return np.asarray(box / box.sum(), np.float32)


def add_noise(pixels: torch.Tensor, grains: Sequence[NDArray[np.float32]]) -> torch.Tensor:
    """Adds noise."""
    grain = torch.from_numpy(np.stack(grains)).to(pixels.device, non_blocking=True)
    return _bytes(pixels + grain.permute(0, 3, 1, 2))


def erase(pixels: torch.Tensor, patches: Sequence[Patch]) -> torch.Tensor:
    """Covers a rectangle of each image with noise."""
    found = pixels.clone()
    for image, patch in zip(found, patches, strict=True):
        height, width = patch.pixels.shape[:2]
        over = torch.from_numpy(patch.pixels).permute(2, 0, 1)
        image[:, patch.top : patch.top + height, patch.left : patch.left + width] = over
    return found


def _from(under: torch.Tensor, pixels: torch.Tensor, factors: Sequence[float]) -> torch.Tensor:
    """Interpolates from `under` (factor 0) through the image (factor 1) and beyond."""
    return _bytes(under + _column(factors, pixels) * (pixels.float() - under))


def _grey(pixels: torch.Tensor) -> torch.Tensor:
    """Pillow's luminance: int32, (n, 1, H, W)."""
    red, green, blue = pixels.int().unbind(1)
    grey: torch.Tensor = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    return grey[:, None]


def _column(values: Sequence[float], pixels: torch.Tensor) -> torch.Tensor:
    """One number for each image: (n, 1, 1, 1)."""
    return torch.tensor(values, dtype=torch.float32, device=pixels.device)[:, None, None, None]


def _flags(values: Sequence[bool], pixels: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.bool, device=pixels.device)[:, None, None, None]


def _bytes(levels: torch.Tensor) -> torch.Tensor:
    """Clamped to [0, 255], with fractions cut off."""
    return levels.clamp(0, 255).to(torch.uint8)


BATCHED: dict[str, BatchedOp] = {
    "identity": identity,
    "shear_x": affine,
    "shear_y": affine,
    "translate_x": affine,
    "translate_y": affine,
    "rotate": affine,
    "brightness": adjust_brightness,
    "color": adjust_saturation,
    "contrast": adjust_contrast,
    "sharpness": adjust_sharpness,
    "posterize": posterize,
    "solarize": solarize,
    "autocontrast": autocontrast,
    "equalize": equalize,
    "invert": invert,
    "blur": gaussian_blur,
    "noise": add_noise,
    "erase": erase,
}
"""For each of `OPERATIONS`, its version for batches."""
