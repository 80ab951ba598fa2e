"""All pairs of near-duplicate thumbnails, found by an index of perceptual hashes."""

import math

import numpy as np
from numpy.typing import NDArray

from acclimate.cleaning.duplicates.connected_components import component_labels
from acclimate.cleaning.duplicates.perceptual_hash import (
    CROP_WINDOWS,
    Thumbnails,
    correlations,
    crop_thumbnails,
    hashes,
    registered_correlations,
)
from acclimate.data.blocks import blocks
from acclimate.data.dataset import Rows
from acclimate.data.images.hash_index import Hashes, HashIndex

ScoredPairs = tuple[NDArray[np.int64], NDArray[np.float32]]
"""(n, 2) pairs, the lower row first, and (n,) correlations."""

_RADIUS = 11
"""Hamming distance, of 64 bits. Clipped brightness changes 10 bits; unrelated photos differ in 32
bits, with a standard deviation of 4."""
_CROP_RADIUS = 9
_REGISTRATION_RANGE = 10.0
"""How many times further from a correlation of 1 a pair may be before registration than the
threshold allows after it."""
_MOST_PAIRS = 32
"""Candidates per image: those with the closest hashes."""
_SAMPLE = 20_000
CORRELATION_BLOCK = 512
"""Pairs at a time, so that they fit the processor's cache."""
_MAX_THRESHOLD = 0.9985
"""A copy that is saved again as JPEG of quality 30 has a higher correlation."""


def near_duplicate_threshold(thumbnails: Thumbnails, min_score: float, seed: int) -> float:
    """The correlation from which two images are near-duplicates.

    Photos of different things hardly correlate; digits, X-rays and parts in front of one camera
    do. So the upper tail of the correlations of random pairs is measured: the higher it is, the
    higher is the threshold. The formula was fitted so that copies of digits (one random pair in a
    thousand correlates at 0.97) and of photos (0.75) are separated from the closest other pairs.

    Args:
        thumbnails: uint8, (N, 16, 16).
        min_score: The lowest threshold, used for photos.
        seed: For the choice of pairs.

    Returns:
        In [min_score, 0.9985], or `min_score` if that is more.
    """
    if len(thumbnails) < MIN_SAMPLE:
        return min_score
    a, b = random_pairs(len(thumbnails), seed)
    found = np.concatenate(
        [
            correlations(thumbnails[a[block]], thumbnails[b[block]])
            for block in blocks(len(a), CORRELATION_BLOCK)
        ]
    )
    return raised_threshold(found, len(thumbnails), min_score)


def raised_threshold(correlations: NDArray[np.float32], count: int, min_score: float) -> float:
    """The threshold for images whose random pairs have these correlations.

    Args:
        correlations: float32, (P,).
        count: The number of images.
        min_score: The lowest threshold.

    Returns:
        In [min_score, 0.9985], or `min_score` if that is more.
    """
    thousandth = correlation_quantile(correlations, count, 3.09)
    required = 1 - 0.33 * float((1 - thousandth) ** 1.5)
    return max(min_score, min(required, _MAX_THRESHOLD))


MIN_SAMPLE = 20
"""With fewer images, random pairs are too few to estimate a threshold."""


def random_pairs(count: int, seed: int) -> tuple[Rows, Rows]:
    """Draws random pairs of different images.

    Args:
        count: The number of images.
        seed: For the choice of pairs.

    Returns:
        The first and the second image of each pair, int64 (P,) each.
    """
    a, b = np.random.default_rng(seed).integers(0, count, (2, _SAMPLE))
    return a[a != b], b[a != b]


def correlation_quantile(correlations: NDArray[np.float32], count: int, deviations: float) -> float:
    """Estimates a high quantile of the correlations of random pairs.

    It is extrapolated with Fisher's z-transform from the 99 % quantile (95 % if there are few
    images), since real copies may be in the tail itself.

    Args:
        correlations: float32, (P,).
        count: The number of images.
        deviations: The quantile in standard deviations: 3.09 for one pair in a thousand.

    Returns:
        A correlation in [0, 1).
    """
    share, its_deviations = (0.99, 2.326) if count >= 10 * MIN_SAMPLE else (0.95, 1.645)
    quantile = min(max(float(np.quantile(correlations, share)), 0.0), 0.999)
    return math.tanh(math.atanh(quantile) * deviations / its_deviations)


def near_duplicate_pairs(thumbnails: Thumbnails, min_score: float) -> ScoredPairs:
    """Finds pairs of near-duplicate thumbnails.

    Copies of whole images are found first. Crops are then searched for among one image of each set
    of copies, so that a data set with many copies does not take longer than one without.

    Args:
        thumbnails: uint8, (N, 16, 16).
        min_score: The lowest correlation, in [0, 1].

    Returns:
        int64, (P, 2) pairs of rows, the lower first; float32, (P,) correlations.
    """
    own_hashes = hashes(thumbnails)
    index = HashIndex(own_hashes)
    kept = [_matching_pairs(index, thumbnails, 0, min_score)]
    representatives = np.unique(component_labels(kept[0][0], len(thumbnails)))
    some = thumbnails[representatives]
    index = HashIndex(own_hashes[representatives])
    for window in range(1, len(CROP_WINDOWS)):
        pairs, scores = _matching_pairs(index, some, window, min_score)
        kept.append((representatives[pairs], scores))
    return merge_pairs(kept)


def _matching_pairs(
    index: HashIndex, thumbnails: Thumbnails, window: int, min_score: float
) -> ScoredPairs:
    """Pairs of a thumbnail and another one that matches its crop."""
    crops = crop_thumbnails(thumbnails, window)
    flipped_bits, radius = (2, _RADIUS) if window == 0 else (1, _CROP_RADIUS)
    pairs = candidates(
        index, hashes(crops), np.arange(len(crops)), flipped_bits=flipped_bits, radius=radius
    )
    kept: list[ScoredPairs] = [(np.empty((0, 2), np.int64), np.empty(0, np.float32))]
    for block in blocks(len(pairs), _BLOCK):
        some = pairs[block]
        unregistered = correlations(crops[some[:, 0]], thumbnails[some[:, 1]])
        # Only pairs that are promising and not yet above the threshold are registered.
        score, promising = unregistered, _REGISTRATION_RANGE * (1 - min_score)
        to_register = (unregistered < min_score) & (1 - unregistered <= promising)
        pair = some[to_register]
        starts = np.full(len(pair), window)
        score[to_register] = registered_correlations(
            thumbnails[pair[:, 0]], thumbnails[pair[:, 1]], starts
        )
        kept.append((np.sort(some[score >= min_score], axis=1), score[score >= min_score]))
    return np.concatenate([p for p, _ in kept]), np.concatenate([s for _, s in kept])


_BLOCK = 4096


def candidates(
    index: HashIndex, query_hashes: Hashes, rows: Rows, *, flipped_bits: int, radius: int
) -> NDArray[np.int64]:
    """Finds the closest hashes of each query.

    Args:
        index: The hashes of all rows.
        query_hashes: uint64, (M,).
        rows: int64, (M,): the row that each query comes from.
        flipped_bits: As for the index.
        radius: The largest Hamming distance.

    Returns:
        int64, (n, 2): the row of a query, and another row with a close hash, each once.
    """
    size = len(index.hashes)
    kept = [np.empty((0, 2), np.int64)]
    # In blocks: if all images look alike, each query has a thousand candidates at first.
    for block in blocks(len(query_hashes), _QUERIES):
        some = query_hashes[block]
        codes = [np.empty(0, np.int64)]
        for pairs in index.search(some, flipped_bits=flipped_bits, radius=radius):
            query = pairs[:, 0] + block.start
            other = rows[query] != pairs[:, 1]
            codes.append(np.unique(query[other] * size + pairs[other, 1]))
        code = np.unique(np.concatenate(codes))
        pairs = np.stack([code // size, code % size], axis=1)
        hamming = np.bitwise_count(query_hashes[pairs[:, 0]] ^ index.hashes[pairs[:, 1]])
        nearest = _nearest_candidates(pairs, hamming)
        kept.append(np.stack([rows[nearest[:, 0]], nearest[:, 1]], axis=1))
    return np.concatenate(kept)


_QUERIES = 1 << 14


def _nearest_candidates(pairs: NDArray[np.int64], hamming: NDArray[np.uint8]) -> NDArray[np.int64]:
    """At most `_MOST_PAIRS` pairs of each query."""
    order = np.lexsort((pairs[:, 1], hamming, pairs[:, 0]))
    query = pairs[order, 0]
    place = np.arange(len(query)) - np.searchsorted(query, query, "left")
    found: NDArray[np.int64] = pairs[order[place < _MOST_PAIRS]]
    return found


def merge_pairs(kept: list[ScoredPairs]) -> ScoredPairs:
    """Merges lists of pairs: each pair once, with its best score.

    Args:
        kept: Pairs, the lower row first, and their scores.

    Returns:
        The merged pairs, sorted.
    """
    pairs = np.concatenate([p for p, _ in kept])
    scores = np.concatenate([s for _, s in kept])
    order = np.lexsort((-scores, pairs[:, 1], pairs[:, 0]))
    pairs, scores = pairs[order], scores[order]
    first = np.ones(len(pairs), bool)
    first[1:] = (pairs[1:] != pairs[:-1]).any(1)
    return pairs[first], scores[first]
