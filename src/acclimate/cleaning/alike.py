"""All pairs of thumbnails that show the same picture, found through an index of hashes."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from acclimate.cleaning.clusters import components
from acclimate.cleaning.hash_index import HashIndex
from acclimate.cleaning.likeness import WINDOWS, Thumbnails, correlations, hashes, similarities

Turn = Callable[[Thumbnails], Thumbnails]

MIRRORS: tuple[Turn, ...] = (lambda t: t[:, :, ::-1],)
ROTATIONS: tuple[Turn, ...] = (
    lambda t: np.rot90(t, 1, (1, 2)),
    lambda t: np.rot90(t, 2, (1, 2)),
    lambda t: np.rot90(t, 3, (1, 2)),
)
_RADIUS = 11
"""Bits of 64. Brightness cut off at white moves 10; unrelated photos are 32 apart, 4 standard
deviations being 16."""
_CROP_RADIUS = 9
_ROUGH = 0.7
"""Correlation below which two thumbnails are not laid on each other: a tenth cropped away leaves
more in 99 of 100 photos."""
_MOST_PAIRS = 32
"""Of one image, the nearest by hash: copies are among the nearest."""
_SAMPLE = 20_000


def threshold(thumbnails: Thumbnails, least: float, seed: int) -> float:
    """From which likeness two of these images are near-duplicates.

    Photos of different things hardly correlate; digits, parts before one camera, X-rays do, and
    there only much likelier pairs are copies. The tail of the correlations of random pairs is
    measured, and a pair must be five times nearer to 1 than one pair in a thousand is.

    Args:
        thumbnails: uint8, (N, 16, 16).
        least: The answer for photos.
        seed: Which pairs.

    Returns:
        In [least, 0.995], or `least` if that is more.
    """
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, len(thumbnails), (2, _SAMPLE))
    found = correlations(thumbnails[a[a != b]], thumbnails[b[a != b]])
    if not len(found):
        return least
    # The thousandth is reckoned from the hundredth, by Fisher's transform: copies that are really
    # there would lift the thousandth itself.
    hundredth = min(max(float(np.quantile(found, 0.99)), 0.0), 0.999)
    thousandth = np.tanh(1.4 * np.arctanh(hundredth))
    return max(least, min(1 - (1 - float(thousandth)) / 5, 0.995))


def alike(
    thumbnails: Thumbnails, least: float, turns: tuple[Turn, ...] = ()
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
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
    whole = _search(index, thumbnails, thumbnails, 0, _RADIUS)
    kept = [_verify(thumbnails, thumbnails, whole, 0, least)]
    for turn in turns:
        turned = np.ascontiguousarray(turn(thumbnails))
        found = _search(index, thumbnails, turned, 0, _RADIUS)
        kept.append(_verify(turned, thumbnails, found, 0, least))
    firsts = np.unique(components(np.concatenate([pairs for pairs, _ in kept]), len(thumbnails)))
    some = thumbnails[firsts]
    index = HashIndex(own[firsts])
    for window in range(1, len(WINDOWS)):
        found = _search(index, some, some, window, _CROP_RADIUS)
        pairs, scores = _verify(some, some, found, window, least)
        kept.append((firsts[pairs], scores))
    return _unique(kept)


def _search(
    index: HashIndex, thumbnails: Thumbnails, queries: Thumbnails, window: int, radius: int
) -> NDArray[np.int64]:
    """Candidates: (n, 2), each once, the nearest of each query, roughly alike."""
    count = len(thumbnails)
    asked = hashes(queries, window)
    turned = 2 if window == 0 else 1
    codes = []
    for pairs in index.near(asked, turned=turned, radius=radius):
        other = pairs[pairs[:, 0] != pairs[:, 1]]
        if len(other):
            codes.append(np.unique(other[:, 0] * count + other[:, 1]))
    if not codes:
        return np.empty((0, 2), np.int64)
    code = np.unique(np.concatenate(codes))
    pairs = np.stack([code // count, code % count], axis=1)
    return _nearest(pairs, np.bitwise_count(asked[pairs[:, 0]] ^ index.hashes[pairs[:, 1]]))


def _nearest(pairs: NDArray[np.int64], apart: NDArray[np.uint8]) -> NDArray[np.int64]:
    """At most `_MOST_PAIRS` of each query."""
    order = np.lexsort((pairs[:, 1], apart, pairs[:, 0]))
    query = pairs[order, 0]
    place = np.arange(len(query)) - np.searchsorted(query, query, "left")
    found: NDArray[np.int64] = pairs[order[place < _MOST_PAIRS]]
    return found


_BLOCK = 4096


def _verify(
    queries: Thumbnails,
    thumbnails: Thumbnails,
    pairs: NDArray[np.int64],
    window: int,
    least: float,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Those pairs that are alike indeed, the lower row first."""
    kept, scores = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)]
    for start in range(0, len(pairs), _BLOCK):
        some = pairs[start : start + _BLOCK]
        rough = correlations(queries[some[:, 0]], thumbnails[some[:, 1]])
        some = some[rough >= min(_ROUGH, least)]
        starts = np.full(len(some), window)
        score = similarities(queries[some[:, 0]], thumbnails[some[:, 1]], starts)
        kept.append(np.sort(some[score >= least], axis=1))
        scores.append(score[score >= least])
    return np.concatenate(kept), np.concatenate(scores)


def _unique(
    kept: list[tuple[NDArray[np.int64], NDArray[np.float32]]],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Each pair once, with its best score."""
    pairs = np.concatenate([p for p, _ in kept])
    scores = np.concatenate([s for _, s in kept])
    order = np.lexsort((-scores, pairs[:, 1], pairs[:, 0]))
    pairs, scores = pairs[order], scores[order]
    first = np.ones(len(pairs), bool)
    first[1:] = (pairs[1:] != pairs[:-1]).any(1)
    return pairs[first], scores[first]
