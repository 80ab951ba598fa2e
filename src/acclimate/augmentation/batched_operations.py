"""What is done to pictures, done to a whole batch on its device.

Everything was drawn before (`draws`), so a picture becomes what it becomes alone (`operations`),
give or take one level: each function here follows what Pillow computes. Pictures are grouped by the
kind of change that stands at the same place of their lists; all affine ones are one kind.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from acclimate.augmentation.operations import GREY
from acclimate.augmentation.parameters import Amount, Move, Patch
from acclimate.augmentation.sampled import Change, Drawn

Work = Callable[[torch.Tensor, Sequence[Amount]], torch.Tensor]
"""uint8 (n, 3, H, W), and the amount for each, to uint8 (n, 3, H, W)."""

_ALMOST = 1 / 64
"""Levels. Pillow cuts fractions off in double precision; in single, whole numbers come out a little
too small now and then."""
_PASSES = 3
"""Box filters that Pillow's Gaussian blur is made of."""


def finished(
    images: NDArray[np.uint8], drawn: Sequence[Sequence[Drawn]], device: torch.device
) -> torch.Tensor:
    """Pictures with all done to them that was drawn.

    Args:
        images: Cropped and flipped, uint8, (b, S, S, 3).
        drawn: For each picture, and each of its views that is altered: as many of each.
        device: Where the work is done.

    Returns:
        uint8, (b, S, S, 3), on the device; of several views (b, V, S, S, 3), the plain one first.
    """
    plain = torch.from_numpy(images).to(device, non_blocking=True)
    altered = [alter(plain, view) for view in zip(*drawn, strict=True)]
    return torch.stack([plain, *altered], 1) if len(altered) > 1 else altered[0]


def alter(images: torch.Tensor, drawn: Sequence[Drawn]) -> torch.Tensor:
    """A batch with all of it done.

    Args:
        images: uint8, (b, S, S, 3). Not changed.
        drawn: For each image.

    Returns:
        uint8, (b, S, S, 3), on the same device.
    """
    pixels = images.permute(0, 3, 1, 2).contiguous()
    pixels = _changed(pixels, [one.changes for one in drawn])
    # A policy has as many chains for each image, or none.
    chains = list(zip(*(one.chains for one in drawn), strict=True))
    if chains:
        blended = _column([one.share for one in drawn], pixels) * pixels.float()
        for chain in chains:
            shares = _column([link.share for link in chain], pixels)
            blended += shares * _changed(pixels, [link.changes for link in chain]).float()
        pixels = _bytes(blended.round())
    pixels = _changed(pixels, [one.last for one in drawn])
    return pixels.permute(0, 2, 3, 1).contiguous()


def _changed(pixels: torch.Tensor, lists: Sequence[Sequence[Change]]) -> torch.Tensor:
    for place in range(max(map(len, lists), default=0)):
        groups: dict[Work, list[int]] = {}
        for index, changes in enumerate(lists):
            if place < len(changes):
                groups.setdefault(BATCHED[changes[place].name], []).append(index)
        groups.pop(left_alone, None)
        changed = pixels.clone()
        for work, indices in groups.items():
            at = torch.tensor(indices, device=pixels.device)
            changed[at] = work(pixels[at], [lists[index][place].amount for index in indices])
        pixels = changed
    return pixels


def left_alone(pixels: torch.Tensor, amounts: Sequence[Amount]) -> torch.Tensor:
    """The pictures as they are."""
    return pixels


def moved(pixels: torch.Tensor, moves: Sequence[Move]) -> torch.Tensor:
    """Turned, slanted or shifted on a grey ground: one grid for each, one sampling for all."""
    height, width = pixels.shape[2:]
    maps = torch.tensor([_inverse(move, height, width) for move in moves], dtype=torch.float32)
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


def _inverse(move: Move, height: int, width: int) -> list[list[float]]:
    """Where a pixel comes from, as torchvision has it: rows of (x, y, 1)."""
    turn, sx, sy = (math.radians(a) for a in (move.angle, move.shear_x, move.shear_y))
    a, c = math.cos(turn - sy) / math.cos(sy), math.sin(turn - sy) / math.cos(sy)
    b, d = -a * math.tan(sx) - math.sin(turn), -c * math.tan(sx) + math.cos(turn)
    # Its determinant is 1: nothing is made larger.
    middle_x, middle_y = width / 2, height / 2
    away_x, away_y = middle_x + move.right, middle_y + move.down
    return [
        [d, -b, middle_x - d * away_x + b * away_y],
        [-c, a, middle_y + c * away_x - a * away_y],
    ]


def brightened(pixels: torch.Tensor, factors: Sequence[float]) -> torch.Tensor:
    """Darker or brighter."""
    return _from(torch.zeros((), device=pixels.device), pixels, factors)


def saturated(pixels: torch.Tensor, factors: Sequence[float]) -> torch.Tensor:
    """Paler or more colourful."""
    return _from(_grey(pixels).float(), pixels, factors)


def contrasted(pixels: torch.Tensor, factors: Sequence[float]) -> torch.Tensor:
    """Flatter or starker."""
    grey = _grey(pixels)
    total, count = grey.sum((1, 2, 3), dtype=torch.int64), grey[0].numel()
    mean = (2 * total + count) // (2 * count)  # rounded
    return _from(mean.float()[:, None, None, None], pixels, factors)


def sharpened(pixels: torch.Tensor, factors: Sequence[float]) -> torch.Tensor:
    """Softer or sharper; the outermost pixels stay."""
    soft = pixels.float()
    if min(pixels.shape[2:]) > 2:
        kernel = torch.ones(3, 1, 3, 3, device=pixels.device)
        kernel[:, :, 1, 1] = 5
        summed = functional.conv2d(soft, kernel, groups=3)
        soft = soft.clone()
        soft[..., 1:-1, 1:-1] = (summed / 13 + 0.5).floor()
    return _from(soft, pixels, factors)


def posterized(pixels: torch.Tensor, bits: Sequence[int]) -> torch.Tensor:
    """Fewer levels a channel."""
    masks = torch.tensor([256 - (1 << (8 - kept)) for kept in bits], device=pixels.device)
    return pixels & masks.to(torch.uint8)[:, None, None, None]


def solarized(pixels: torch.Tensor, thresholds: Sequence[float]) -> torch.Tensor:
    """Values from a threshold on inverted."""
    return torch.where(pixels.float() < _column(thresholds, pixels), pixels, 255 - pixels)


def stretched(pixels: torch.Tensor, done: Sequence[bool]) -> torch.Tensor:
    """Levels of each channel stretched to the whole range, where it is done."""
    levels = pixels.float()
    low, high = levels.amin((2, 3), keepdim=True), levels.amax((2, 3), keepdim=True)
    scale = 255 / (high - low).clamp_min(1)
    wide = torch.where(high > low, (levels - low) * scale + _ALMOST, levels)
    return torch.where(_flags(done, pixels), _bytes(wide), pixels)


def equalized(pixels: torch.Tensor, done: Sequence[bool]) -> torch.Tensor:
    """Histogram of each channel flattened, where it is done."""
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
    changes = _flags(done, pixels) & (step > 0)[..., None]
    return torch.where(changes, flat, pixels)


def inverted(pixels: torch.Tensor, done: Sequence[bool]) -> torch.Tensor:
    """Light and dark exchanged, where it is done."""
    return torch.where(_flags(done, pixels), 255 - pixels, pixels)


def blurred(pixels: torch.Tensor, sigmas: Sequence[float]) -> torch.Tensor:
    """Out of focus: three boxes along rows, then three along columns, of a width for each."""
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
    """Of Pillow's blur: its ends are fractions (Gwosdek et al. 2011, extended box filters)."""
    variance = sigma * sigma / _PASSES
    whole = math.floor((math.sqrt(12 * variance + 1) - 1) / 2)
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance)
    part /= 6 * (variance - (whole + 1) ** 2)
    box = np.ones(2 * whole + 3, np.float32)
    box[[0, -1]] = part
    return np.asarray(box / box.sum(), np.float32)


def grained(pixels: torch.Tensor, grains: Sequence[NDArray[np.float32]]) -> torch.Tensor:
    """With noise added."""
    grain = torch.from_numpy(np.stack(grains)).to(pixels.device, non_blocking=True)
    return _bytes(pixels + grain.permute(0, 3, 1, 2))


def covered(pixels: torch.Tensor, patches: Sequence[Patch]) -> torch.Tensor:
    """With a rectangle of noise over each."""
    found = pixels.clone()
    for image, patch in zip(found, patches, strict=True):
        height, width = patch.pixels.shape[:2]
        over = torch.from_numpy(patch.pixels).permute(2, 0, 1)
        image[:, patch.top : patch.top + height, patch.left : patch.left + width] = over
    return found


def _from(under: torch.Tensor, pixels: torch.Tensor, factors: Sequence[float]) -> torch.Tensor:
    """From something dull (0) through the picture (1) and beyond."""
    return _bytes(under + _column(factors, pixels) * (pixels.float() - under))


def _grey(pixels: torch.Tensor) -> torch.Tensor:
    """Pillow's luminance: int32, (n, 1, H, W)."""
    red, green, blue = pixels.int().unbind(1)
    grey: torch.Tensor = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    return grey[:, None]


def _column(values: Sequence[float], pixels: torch.Tensor) -> torch.Tensor:
    """A number for each picture: (n, 1, 1, 1)."""
    return torch.tensor(values, dtype=torch.float32, device=pixels.device)[:, None, None, None]


def _flags(values: Sequence[bool], pixels: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.bool, device=pixels.device)[:, None, None, None]


def _bytes(levels: torch.Tensor) -> torch.Tensor:
    """Bounded, and the fraction cut off."""
    return levels.clamp(0, 255).to(torch.uint8)


BATCHED: dict[str, Work] = {
    "identity": left_alone,
    "shear_x": moved,
    "shear_y": moved,
    "translate_x": moved,
    "translate_y": moved,
    "rotate": moved,
    "brightness": brightened,
    "color": saturated,
    "contrast": contrasted,
    "sharpness": sharpened,
    "posterize": posterized,
    "solarize": solarized,
    "autocontrast": stretched,
    "equalize": equalized,
    "invert": inverted,
    "blur": blurred,
    "noise": grained,
    "erase": covered,
}
"""For each of `OPERATIONS`, its work on many pictures."""
