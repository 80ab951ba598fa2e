"""All pairs of thumbnails that show the same picture, found through an index of hashes."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from acclimate.cleaning.duplicates.connected_components import components
from acclimate.cleaning.duplicates.hash_index import HashIndex
from acclimate.cleaning.duplicates.perceptual_hash import (
    WINDOWS,
    Hashes,
    Thumbnails,
    correlations,
    hashes,
    parts,
    similarities,
)
from acclimate.data.dataset import Rows

Turn = Callable[[Thumbnails], Thumbnails]

MIRRORS: tuple[Turn, ...] = (lambda t: t[:, :, ::-1],)
ROTATIONS: tuple[Turn, ...] = (
    lambda t: np.rot90(t, 1, (1, 2)),
    lambda t: np.rot90(t, 2, (1, 2)),
    lambda t: np.rot90(t, 3, (1, 2)),
)
Scored = tuple[NDArray[np.int64], NDArray[np.float32]]
"""(n, 2) pairs, the lower row first, and (n,) how alike they are."""

_RADIUS = 11
"""Bits of 64. Brightness cut off at white moves 10; unrelated photos are 32 apart, 4 standard
deviations being 16."""
_CROP_RADIUS = 9
_ROUGH = 10.0
"""Before two thumbnails are laid on each other exactly, they may be so many times further from
alike than after it."""
_MOST_PAIRS = 32
"""Of one image, the nearest by hash: copies are among the nearest."""
_SAMPLE = 20_000
_SOME = 512
"""Pairs at a time that the processor's cache holds."""
_STRICTEST = 0.9985
"""A copy stored anew at quality 30 is nearer than this."""


def threshold(thumbnails: Thumbnails, least: float, seed: int) -> float:
    """From which likeness two of these images are near-duplicates.

    Photos of different things hardly correlate; digits, parts before one camera, X-rays do, and
    there only much likelier pairs are copies. So the tail of the correlations of random pairs is
    measured: the further it reaches, the more is asked of a pair. The formula was fitted so that
    copies of digits, whose thousandth pair correlates at 0.97, and of photos, 0.75, stand clear of
    the nearest pairs that are none.

    Args:
        thumbnails: uint8, (N, 16, 16).
        least: The answer for photos.
        seed: Which pairs.

    Returns:
        In [least, 0.9985], or `least` if that is more.
    """
    if len(thumbnails) < FEW:
        return least
    a, b = random_pairs(len(thumbnails), seed)
    found = np.concatenate(
        [
            correlations(thumbnails[a[i : i + _SOME]], thumbnails[b[i : i + _SOME]])
            for i in range(0, len(a), _SOME)
        ]
    )
    thousandth = reach(found, len(thumbnails), 3.09)
    asked = 1 - 0.33 * float((1 - thousandth) ** 1.5)
    return max(least, min(asked, _STRICTEST))


FEW = 20
"""Images among which random pairs say too little, and accidental likeness is unlikely."""


def random_pairs(count: int, seed: int) -> tuple[Rows, Rows]:
    """Some pairs of different images.

    Args:
        count: Of the images.
        seed: Which pairs.

    Returns:
        Two rows of places, int64 (P,) each.
    """
    a, b = np.random.default_rng(seed).integers(0, count, (2, _SAMPLE))
    return a[a != b], b[a != b]


def reach(correlations: NDArray[np.float32], count: int, deviations: float) -> float:
    """How far the correlations of random pairs reach.

    Reckoned by Fisher's transform from what one pair in a hundred reaches, in twenty where there
    are few images: the tail itself may be made of copies that are really there.

    Args:
        correlations: float32, (P,).
        count: The images that they are of.
        deviations: Of a normal distribution: 3.09 for one pair in a thousand.

    Returns:
        A correlation in [0, 1).
    """
    share, its_deviations = (0.99, 2.326) if count >= 10 * FEW else (0.95, 1.645)
    known = min(max(float(np.quantile(correlations, share)), 0.0), 0.999)
    return math.tanh(math.atanh(known) * deviations / its_deviations)


def alike(thumbnails: Thumbnails, least: float, turns: tuple[Turn, ...] = ()) -> Scored:
    """Pairs of thumbnails that show the same picture.

    Copies of the whole are found first; crops are then looked for among one of each set of copies,
    so that a set that holds every picture a hundred times costs no more than one that does not.

    Args:
        thumbnails: uint8, (N, 16, 16).
        least: The likeness, in [0, 1].
        turns: Ways in which a copy may be turned.

    Returns:
        int64, (P, 2) pairs of rows, the lower first; float32, (P,) how alike they are.
    """
    own = hashes(thumbnails)
    index = HashIndex(own)
    kept = [_copies(index, thumbnails, thumbnails, 0, least)]
    for turn in turns:
        turned = np.ascontiguousarray(turn(thumbnails))
        kept.append(_copies(index, thumbnails, turned, 0, least))
    firsts = np.unique(components(np.concatenate([pairs for pairs, _ in kept]), len(thumbnails)))
    some = thumbnails[firsts]
    index = HashIndex(own[firsts])
    for window in range(1, len(WINDOWS)):
        pairs, scores = _copies(index, some, some, window, least)
        kept.append((firsts[pairs], scores))
    return best_of(kept)


def _copies(
    index: HashIndex, thumbnails: Thumbnails, queries: Thumbnails, window: int, least: float
) -> Scored:
    """Pairs of a query and a thumbnail that is its part."""
    shown = parts(queries, window)
    pairs = _candidates(index, hashes(shown), window)
    kept: list[Scored] = [(np.empty((0, 2), np.int64), np.empty(0, np.float32))]
    for start in range(0, len(pairs), _BLOCK):
        some = pairs[start : start + _BLOCK]
        rough = correlations(shown[some[:, 0]], thumbnails[some[:, 1]])
        # Only what is alike enough to be worth it, and not yet alike enough, is laid on exactly.
        score, unsure = rough, (rough < least) & (1 - rough <= _ROUGH * (1 - least))
        pair = some[unsure]
        starts = np.full(len(pair), window)
        score[unsure] = similarities(queries[pair[:, 0]], thumbnails[pair[:, 1]], starts)
        kept.append((np.sort(some[score >= least], axis=1), score[score >= least]))
    return np.concatenate([p for p, _ in kept]), np.concatenate([s for _, s in kept])


_BLOCK = 4096


def _candidates(index: HashIndex, asked: Hashes, window: int) -> NDArray[np.int64]:
    """(n, 2): a query and another row whose hash is near, each once, the nearest of each query."""
    count = len(asked)
    turned, radius = (2, _RADIUS) if window == 0 else (1, _CROP_RADIUS)
    kept = [np.empty((0, 2), np.int64)]
    # In parts: where all images are alike every query has a thousand candidates before the cut.
    for start in range(0, count, _QUERIES):
        some = asked[start : start + _QUERIES]
        codes = [np.empty(0, np.int64)]
        for pairs in index.near(some, turned=turned, radius=radius):
            query = pairs[:, 0] + start
            other = query != pairs[:, 1]
            codes.append(np.unique(query[other] * count + pairs[other, 1]))
        code = np.unique(np.concatenate(codes))
        pairs = np.stack([code // count, code % count], axis=1)
        apart = np.bitwise_count(asked[pairs[:, 0]] ^ index.hashes[pairs[:, 1]])
        kept.append(_nearest(pairs, apart))
    return np.concatenate(kept)


_QUERIES = 1 << 14


def _nearest(pairs: NDArray[np.int64], apart: NDArray[np.uint8]) -> NDArray[np.int64]:
    """At most `_MOST_PAIRS` of each query."""
    order = np.lexsort((pairs[:, 1], apart, pairs[:, 0]))
    query = pairs[order, 0]
    place = np.arange(len(query)) - np.searchsorted(query, query, "left")
    found: NDArray[np.int64] = pairs[order[place < _MOST_PAIRS]]
    return found


def best_of(kept: list[Scored]) -> Scored:
    """Each pair once, with its best score.

    Args:
        kept: Pairs, the lower row first, and their scores.

    Returns:
        The same in the order of the pairs.
    """
    pairs = np.concatenate([p for p, _ in kept])
    scores = np.concatenate([s for _, s in kept])
    order = np.lexsort((-scores, pairs[:, 1], pairs[:, 0]))
    pairs, scores = pairs[order], scores[order]
    first = np.ones(len(pairs), bool)
    first[1:] = (pairs[1:] != pairs[:-1]).any(1)
    return pairs[first], scores[first]
