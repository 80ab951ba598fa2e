"""Perceptual hashes and registration of thumbnails.

The hash is the perceptual hash of Zauner 2010, "Implementation and Benchmarking of Perceptual Image
Hash Functions", with signs instead of a median: the 64 lowest frequencies of a cosine transform
without the mean. A light crop changes a third of the bits, so the crops in `CROP_WINDOWS` are
hashed too. A candidate pair is then registered (Lucas and Kanade 1981) and its correlation
measured.
"""

from collections.abc import Iterable
from itertools import product

import numpy as np
from numpy.typing import NDArray

from acclimate.cleaning.scan.image_stats import THUMBNAIL
from acclimate.data.images.hash_index import Hashes

Thumbnails = NDArray[np.uint8]
"""(N, 16, 16): luminance."""
Array = NDArray[np.float32]


def stacked(thumbnails: Iterable[bytes]) -> Thumbnails:
    """Thumbnails of a table's column as one array.

    Args:
        thumbnails: uint8, 16 x 16 each.

    Returns:
        uint8, (N, 16, 16).
    """
    return np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL)


_CROP_SIDES = ((0.0, 1.0), (0.0, 0.9), (0.1, 1.0), (0.05, 0.95))
CROP_WINDOWS = tuple(product(_CROP_SIDES, _CROP_SIDES))
"""What a crop of up to 10 % may leave of an image, vertically and horizontally; first all of it."""

S = THUMBNAIL
_K = np.arange(S)
_SCALE = np.sqrt(np.where(_K == 0, 1, 2) / S)


def _basis(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """(16, 16): cosine basis at places in [0, 1] of a side; frequencies are the last dimension."""
    found: NDArray[np.float64] = np.cos(np.pi * places[:, None] * _K) * _SCALE
    return found


_CENTRES = (_K + 0.5) / S
_COSINES = _basis(_CENTRES).T.astype(np.float32)
"""(16, 16): samples to frequencies."""

_ORDER = sorted(
    ((i, j) for i, j in product(range(S), repeat=2) if i + j), key=lambda p: (sum(p), p)
)[:128]
_ROWS, _COLUMNS = (np.asarray(side) for side in zip(*_ORDER, strict=True))
_LOW, _HIGHER = slice(64), slice(64, 128)


def crop_thumbnails(thumbnails: Thumbnails, window: int) -> Array:
    """Crops thumbnails and enlarges the crops to the same size.

    Args:
        thumbnails: uint8, (N, 16, 16).
        window: Index into `CROP_WINDOWS`.

    Returns:
        float32, (N, 16, 16).
    """
    down, across = (
        (_basis(low + (high - low) * _CENTRES) @ _COSINES).astype(np.float32)
        for low, high in CROP_WINDOWS[window]
    )
    found: Array = down @ thumbnails.astype(np.float32) @ across.T
    return found


def hashes(pictures: Thumbnails | Array) -> Hashes:
    """Perceptual hashes.

    Args:
        pictures: uint8 or float32, (N, 16, 16).

    Returns:
        uint64, (N,): the first frequency is the highest bit.
    """
    return hash_bits(cosine_transform(pictures))


def detail_hashes(pictures: Thumbnails | Array) -> Hashes:
    """Hashes of the 64 frequencies that follow those of `hashes`.

    Both together tell copies from images that are merely alike: of 1,797 digits, the closest two
    differ in 3 bits of `hashes`, as some copies do that were saved again, but in 9 bits of both.

    Args:
        pictures: uint8 or float32, (N, 16, 16).

    Returns:
        uint64, (N,): the first frequency is the highest bit.
    """
    return _signs(cosine_transform(pictures), _HIGHER)


def cosine_transform(pictures: Thumbnails | Array) -> Array:
    """The cosine transform of thumbnails.

    Args:
        pictures: uint8 or float32, (N, 16, 16).

    Returns:
        float32, (N, 16, 16): the mean first; vertical frequencies are the second dimension.
    """
    frequencies: Array = _COSINES @ pictures.astype(np.float32) @ _COSINES.T
    return frequencies


def hash_bits(frequencies: Array) -> Hashes:
    """Perceptual hashes of thumbnails that are transformed already.

    Args:
        frequencies: float32, (N, 16, 16).

    Returns:
        uint64, (N,): the first frequency is the highest bit.
    """
    return _signs(frequencies, _LOW)


def _signs(frequencies: Array, which: slice) -> Hashes:
    bits = np.packbits(frequencies[:, _ROWS[which], _COLUMNS[which]] > 0, axis=1)
    return np.ascontiguousarray(bits).view(">u8").astype(np.uint64).ravel()


def correlations(a: Thumbnails | Array, b: Thumbnails | Array) -> Array:
    """The correlation of each pair of thumbnails.

    Args:
        a: uint8 or float32, (P, 16, 16).
        b: uint8 or float32, (P, 16, 16).

    Returns:
        float32, (P,), in [-1, 1]; 0 if one of them is flat.
    """
    first, second = standardized(a), standardized(b)
    found: Array = np.einsum("pi,pi->p", first, second)
    return found


def standardized(thumbnails: Thumbnails | Array) -> Array:
    """Thumbnails without their mean, of length 1, whose products are correlations.

    Args:
        thumbnails: uint8 or float32, (N, 16, 16).

    Returns:
        float32, (N, 256); zeros for a flat one.
    """
    flat = thumbnails.reshape(len(thumbnails), S * S).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    found: Array = np.divide(flat, norms, out=np.zeros_like(flat), where=norms > FLAT * S)
    return found


FLAT = 3.0
"""Standard deviation in levels of 255 below which a thumbnail has no structure to compare."""
_STEPS = 3
_SLACK = 0.02


def registered_correlations(a: Thumbnails, b: Thumbnails, windows: NDArray[np.int64]) -> Array:
    """The correlation of each pair after registration.

    Starting from the given window, the Gauss-Newton method finds the crop of a, the gain and the
    offset that explain b best. Brightness that is clipped at white in b counts as explained.

    Args:
        a: uint8, (P, 16, 16): the thumbnails to crop.
        b: uint8, (P, 16, 16): possibly crops of a, brighter or darker.
        windows: int64, (P,): the index into `CROP_WINDOWS` to start from.

    Returns:
        float32, (P,), in [0, 1]: the correlation of b with the best crop of a; 0 if one is flat.
    """
    frequencies = cosine_transform(a)
    target = b.astype(np.float32)
    start = np.asarray(CROP_WINDOWS)[windows]
    edges = start.reshape(len(a), 4).copy()  # top, bottom, left, right
    variance = target.var((1, 2)) * S * S
    best = np.zeros(len(a), np.float32)
    for _ in range(_STEPS):
        explained_variance, step = _gauss_newton_step(frequencies, target, edges, variance)
        best = np.maximum(best, explained_variance)
        # Larger crops than a tenth of a side are not searched for.
        low, high = edges.copy(), edges.copy()
        low[:, [0, 2]], high[:, [0, 2]] = 0.0, 0.1 + _SLACK
        low[:, [1, 3]], high[:, [1, 3]] = 0.9 - _SLACK, 1.0
        edges = np.clip(edges + step, low, high)
    best = np.maximum(best, _gauss_newton_step(frequencies, target, edges, variance)[0])
    flat = np.minimum(a.std((1, 2)), b.std((1, 2))) < FLAT
    return np.where(flat, 0.0, np.sqrt(best)).astype(np.float32)


def _gauss_newton_step(
    frequencies: Array, target: Array, edges: NDArray[np.float64], variance: Array
) -> tuple[Array, NDArray[np.float64]]:
    """The share of b's variance that the crop explains, and the step of its edges."""
    down, down_slope = _samplers(edges[:, 0], edges[:, 1])
    across, across_slope = _samplers(edges[:, 2], edges[:, 3])
    part = (down @ frequencies @ across.transpose(0, 2, 1)).astype(np.float32)
    gain, offset = _gain_and_offset(part, target)
    predicted = np.minimum(gain * part + offset, 255)
    residual = target - predicted
    explained_variance = 1 - (residual**2).sum((1, 2)) / np.maximum(variance, 1e-6)
    unclipped = predicted < 255
    vertical = gain * (down_slope @ frequencies @ across.transpose(0, 2, 1)) * unclipped
    horizontal = gain * (down @ frequencies @ across_slope.transpose(0, 2, 1)) * unclipped
    near, far = (1 - _CENTRES).astype(np.float32), _CENTRES.astype(np.float32)
    columns = np.stack(
        [
            vertical * near[:, None],
            vertical * far[:, None],
            horizontal * near,
            horizontal * far,
            part * unclipped,
            unclipped.astype(np.float32),
        ],
        axis=-1,
    ).reshape(len(target), S * S, 6)
    normal = columns.transpose(0, 2, 1) @ columns
    trace = np.trace(normal, axis1=1, axis2=2)[:, None, None]
    normal += (
        2e-4 * trace * np.eye(6, dtype=np.float32)
    )  # regularized: flat directions stay where they are
    pull = columns.transpose(0, 2, 1) @ residual.reshape(len(target), S * S, 1)
    step = np.linalg.solve(normal.astype(np.float64), pull.astype(np.float64))[:, :4, 0]
    return np.maximum(explained_variance, 0).astype(np.float32), step


_SCALE32 = _SCALE.astype(np.float32)
_SLOPE32 = (-np.pi * _K * _SCALE).astype(np.float32)


def _samplers(low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[Array, Array]:
    """(P, 16, 16) each: the cosine basis between two edges, and its derivative."""
    places = low[:, None] + (high - low)[:, None] * _CENTRES
    angle = (np.pi * places[..., None] * _K).astype(np.float32)
    return np.cos(angle) * _SCALE32, np.sin(angle) * _SLOPE32


def _gain_and_offset(part: Array, target: Array) -> tuple[Array, Array]:
    """Gain and offset of the least-squares fit of the crop to b, each (P, 1, 1); gain > 0."""
    known = target < 254
    count = np.maximum(known.sum((1, 2), keepdims=True), 1)
    x_mean = (part * known).sum((1, 2), keepdims=True) / count
    y_mean = (target * known).sum((1, 2), keepdims=True) / count
    x, y = (part - x_mean) * known, (target - y_mean) * known
    gain = (x * y).sum((1, 2), keepdims=True) / np.maximum((x * x).sum((1, 2), keepdims=True), 1e-3)
    gain = np.clip(gain, 0.1, 10.0)
    return gain, y_mean - gain * x_mean
