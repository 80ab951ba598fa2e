"""Pairs of thumbnails of which one is a mirrored or turned copy of the other.

Mirroring an image changes only signs of its cosine transform; transposing it swaps rows and
columns. So each image is brought into one of its eight orientations by its own two lowest
frequencies, and one search among the hashes finds its copies in all orientations.
"""

from itertools import product

import numpy as np
from numpy.typing import NDArray

from acclimate.cleaning.duplicates.perceptual_hash import (
    FLAT,
    Array,
    Thumbnails,
    cosine_transform,
    hash_bits,
)
from acclimate.cleaning.duplicates.thumbnail_pairs import (
    CORRELATION_BLOCK,
    MIN_SAMPLE,
    ScoredPairs,
    candidates,
    merge_pairs,
    raised_threshold,
    random_pairs,
)
from acclimate.cleaning.scan.image_stats import THUMBNAIL
from acclimate.data.blocks import blocks
from acclimate.data.dataset import Rows
from acclimate.data.images.hash_index import HashIndex

_ORIENTATIONS = tuple(product((False, True), repeat=3))
"""Whether an image is transposed, then mirrored top to bottom, then left to right."""
_MIRRORED = (1, 2)
_TURNED = (3, 5, 6)
_NOISE = 8.0
"""Levels by which saving an image again may change one of its frequencies. An image whose
orientation is decided by less is looked up in each orientation that it may have."""
_RADIUS, _FLIPPED_BITS = 7, 1
"""Copies that are saved again, resized, brighter or darker differ in at most 6 of 64 bits."""
_SAMPLE = 5000
"""Random pairs; each is compared in all orientations."""
_BLOCK = 4096


def turned_pairs(
    thumbnails: Thumbnails, min_score: float, seed: int, *, mirrored: bool, rotated: bool
) -> ScoredPairs:
    """Finds pairs of which one image is the other one, mirrored or turned.

    Args:
        thumbnails: uint8, (N, 16, 16).
        min_score: The lowest correlation, in [0, 1]. It is raised if random pairs look alike in
            some orientation.
        seed: For these random pairs.
        mirrored: Whether to find mirrored copies, left to right or top to bottom.
        rotated: Whether to find copies that are turned by 90, 180 or 270 degrees. With both, also
            those that are mirrored and turned.

    Returns:
        int64, (P, 2) pairs of rows, the lower first; float32, (P,) correlations.
    """
    nothing = np.empty((0, 2), np.int64), np.empty(0, np.float32)
    wanted = [*(_MIRRORED if mirrored else ()), *(_TURNED if rotated else ())]
    wanted = list(range(1, len(_ORIENTATIONS))) if mirrored and rotated else wanted
    if not wanted or len(thumbnails) < 2:
        return nothing
    frequencies = cosine_transform(thumbnails)
    if len(thumbnails) >= MIN_SAMPLE:
        random = np.stack(random_pairs(len(thumbnails), seed), axis=1)[:_SAMPLE]
        correlations = _oriented_correlations(frequencies, random, wanted)
        min_score = raised_threshold(correlations, len(thumbnails), min_score)
    pairs = np.sort(_oriented_candidates(frequencies), axis=1)
    scores = _oriented_correlations(frequencies, pairs, wanted)
    return merge_pairs([nothing, (pairs[scores >= min_score], scores[scores >= min_score])])


def _oriented_candidates(frequencies: Array) -> NDArray[np.int64]:
    """(n, 2): rows whose hashes are close in some orientation."""
    size = len(frequencies)
    index_hashes = np.zeros(size, np.uint64)
    queries: list[NDArray[np.uint64]] = []
    rows: list[Rows] = []
    for block in blocks(size, _BLOCK):
        for orientation in _ORIENTATIONS[::-1]:
            some = _oriented(frequencies[block], orientation)
            own = np.flatnonzero(_may_be_first(some, 0.0))
            index_hashes[block.start + own] = hash_bits(some[own])
            possible = np.flatnonzero(_may_be_first(some, _NOISE))
            queries.append(hash_bits(some[possible]))
            rows.append(block.start + possible)
    return candidates(
        HashIndex(index_hashes),
        np.concatenate(queries),
        np.concatenate(rows),
        flipped_bits=_FLIPPED_BITS,
        radius=_RADIUS,
    )


def _oriented(frequencies: Array, orientation: tuple[bool, ...]) -> Array:
    transposed, upside_down, reversed_ = orientation
    found = frequencies.transpose(0, 2, 1) if transposed else frequencies
    signs: Array = np.multiply.outer(_SIGNS[int(upside_down)], _SIGNS[int(reversed_)])
    return found * signs


_SIGNS = np.stack([np.ones(THUMBNAIL), (-1.0) ** np.arange(THUMBNAIL)]).astype(np.float32)
"""What mirroring does to each frequency: not mirrored, mirrored."""


def _may_be_first(frequencies: Array, noise: float) -> NDArray[np.bool_]:
    """Whether the two lowest frequencies are positive, and the horizontal one is the larger."""
    down, across = frequencies[:, 1, 0], frequencies[:, 0, 1]
    found: NDArray[np.bool_] = (down >= -noise) & (across >= down - noise)
    return found


def _oriented_correlations(
    frequencies: Array, pairs: NDArray[np.int64], orientations: list[int]
) -> NDArray[np.float32]:
    """(P,): the highest correlation of each pair over some orientations of its second image."""
    found = [np.empty(0, np.float32)]
    for block in blocks(len(pairs), CORRELATION_BLOCK):
        a, b = (_unit(frequencies[pairs[block, side]]) for side in (0, 1))
        sums = [_sums_by_parity(a * b), _sums_by_parity(a * b.transpose(0, 2, 1))]
        all_of_them = np.concatenate([_HADAMARD @ s[..., None] for s in sums], axis=1)[..., 0]
        found.append(all_of_them[:, orientations].max(1))
    return np.concatenate(found)


_HADAMARD = np.asarray([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], np.float32)
"""Not mirrored, left to right, top to bottom, both; each frequency is even or odd in both."""


def _sums_by_parity(products: Array) -> Array:
    """(P, 4): sums over frequencies that are even or odd, vertically and then horizontally."""
    half = THUMBNAIL // 2
    found: Array = products.reshape(-1, half, 2, half, 2).sum((1, 3)).reshape(-1, 4)
    return found


def _unit(frequencies: Array) -> Array:
    """Without the mean, scaled to length 1; zeros for a flat image."""
    found = frequencies.copy()
    found[:, 0, 0] = 0
    norms = np.linalg.norm(found, axis=(1, 2), keepdims=True)
    unit: Array = np.divide(found, norms, out=np.zeros_like(found), where=norms > FLAT * THUMBNAIL)
    return unit
