"""The images that a classifier was made with, so that it is not evaluated on them by mistake.

An image is known by digests of its file and of its pixels, and by a perceptual hash, which finds
copies that were resized or saved again. No image can be seen in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import reduce
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import safetensors.numpy
from numpy.typing import NDArray

from acclimate.data.dataset import Dataset, Rows
from acclimate.data.images.hash_index import Hashes, HashIndex
from acclimate.errors import ModelFileError, count, reason
from acclimate.files import digest_bytes

UNUSED, TRAIN, VAL = 0, 1, 2
_MAX_BITS = 8
"""Of 128 bits. On digits, objects and photos, copies saved again as JPEG or WebP, or at half the
size, differ in at most 6 bits in 95 of 100 cases, and in 13 at most. Different images differ in at
least 9 bits (digits), or in 31 (photos)."""
_LOW_BITS = 7
"""Of these, among the 64 lowest frequencies; found with one flipped bit per substring."""


@dataclass(frozen=True)
class UsedImages:
    """Digests of the images that a classifier was trained on, or that its epochs were chosen on.

    Attributes:
        files: uint64, (N,): digests of the files.
        pixels: uint64, (N,): digests of the pixels; that of the file if there is none.
        low: uint64, (N,): perceptual hash.
        details: uint64, (N,): perceptual hash of higher frequencies.
        hashed: bool, (N,): whether there is a perceptual hash; flat images have none.
        roles: uint8, (N,): `TRAIN` or `VAL`.
    """

    files: Hashes
    pixels: Hashes
    low: Hashes
    details: Hashes
    hashed: NDArray[np.bool_]
    roles: NDArray[np.uint8]

    def __len__(self) -> int:
        """The number of images."""
        return len(self.files)

    @classmethod
    def of(cls, dataset: Dataset, splits: Sequence[str] = ("train",)) -> Self:
        """The images of a data set.

        Args:
            dataset: Cleaned and split. Images that were never decoded are left out.
            splits: The splits that were trained on. The epochs are always chosen on val.

        Returns:
            Its images.
        """
        parts = [(dataset.rows(name), TRAIN) for name in splits] + [(dataset.rows("val"), VAL)]
        rows = np.concatenate([rows for rows, _ in parts])
        roles = np.concatenate([np.full(len(rows), role, np.uint8) for rows, role in parts])
        decoded = dataset.has("digest")[rows]
        return cls(*_digests(dataset, rows[decoded]), roles[decoded])

    def merged(self, other: Self) -> Self:
        """The images of both, each once; an image that was trained on in one of them counts so."""
        parts = [
            np.concatenate([getattr(self, field.name), getattr(other, field.name)])
            for field in fields(self)
        ]
        files, roles = parts[0], parts[-1]
        order = np.lexsort((roles, files))
        first = np.ones(len(order), bool)
        first[1:] = files[order][1:] != files[order][:-1]
        return type(self)(*(part[order][first] for part in parts))

    def roles_of(self, dataset: Dataset, rows: Rows, *, by_hash: bool = True) -> NDArray[np.uint8]:
        """The role of each image of a data set.

        Args:
            dataset: Cleaned: its files have digests.
            rows: int64, (M,).
            by_hash: Whether copies that were resized or saved again are searched for too.

        Returns:
            uint8, (M,): `UNUSED`, `TRAIN` or `VAL`.
        """
        other = type(self)(*_digests(dataset, rows), np.zeros(len(rows), np.uint8))
        found = np.full(len(rows), UNUSED, np.uint8)
        for role in (VAL, TRAIN):
            own = self.roles == role
            same = np.isin(other.files, self.files[own]) | np.isin(other.pixels, self.pixels[own])
            found[same | self._copies(other, own) if by_hash else same] = role
        return found

    def _copies(self, other: Self, own: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which of the other images are copies of some of these by their perceptual hash."""
        own_rows, queries = np.flatnonzero(own & self.hashed), np.flatnonzero(other.hashed)
        found = np.zeros(len(other), bool)
        index = HashIndex(self.low[own_rows])
        for pairs in index.search(other.low[queries], flipped_bits=1, radius=_LOW_BITS):
            theirs, ours = queries[pairs[:, 0]], own_rows[pairs[:, 1]]
            bits = np.bitwise_count(other.low[theirs] ^ self.low[ours]).astype(np.int64)
            bits += np.bitwise_count(other.details[theirs] ^ self.details[ours])
            found[theirs[bits <= _MAX_BITS]] = True
        return found

    def as_bytes(self) -> bytes:
        """The content of a safetensors file."""
        return safetensors.numpy.save(
            {field.name: getattr(self, field.name) for field in fields(self)}
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Reads what `as_bytes` wrote.

        Args:
            content: The content of the file.

        Returns:
            The images.

        Raises:
            ModelFileError: The content is not valid.
        """
        try:
            parts = safetensors.numpy.load(content)
            found = cls(**{field.name: parts[field.name] for field in fields(cls)})
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"used images cannot be read ({reason(error)}).") from error
        kinds = [np.uint64] * 4 + [np.bool_, np.uint8]
        arrays = [getattr(found, field.name) for field in fields(cls)]
        fits = all(
            array.dtype == kind and array.shape == (len(found.files),)
            for array, kind in zip(arrays, kinds, strict=True)
        )
        if not fits:
            raise ModelFileError("used images cannot be read (wrong shapes or types).")
        return found

    @property
    def digest(self) -> str:
        """The digest of the file."""
        return digest_bytes(self.as_bytes())


def united(*parts: UsedImages | None) -> UsedImages | None:
    """The images of all parts that are known; None if none is."""
    known = [part for part in parts if part is not None]
    return reduce(UsedImages.merged, known) if known else None


def describe(roles: NDArray[np.uint8]) -> str:
    """The used images in words.

    Args:
        roles: uint8, (M,): `UNUSED`, `TRAIN` or `VAL`.

    Returns:
        Text such as "of 150 images, 100 were trained on and 20 chose the epochs".
    """
    trained, chose = int((roles == TRAIN).sum()), int((roles == VAL).sum())
    parts = [f"{trained:,} {'was' if trained == 1 else 'were'} trained on"] if trained else []
    parts += [f"{chose:,} chose the epochs"] if chose else []
    return f"of {count(len(roles), 'image')}, {' and '.join(parts)}"


def _digests(
    dataset: Dataset, rows: Rows
) -> tuple[Hashes, Hashes, Hashes, Hashes, NDArray[np.bool_]]:
    table = dataset.table.select(["digest", "pixels", "phash", "phash_details"]).take(rows)
    files = _numbers(table["digest"])
    pixels = np.where(np.asarray(table["pixels"].is_valid()), _numbers(table["pixels"]), files)
    low, details = (
        np.asarray(pc.fill_null(table[name], 0), np.uint64) for name in ("phash", "phash_details")
    )
    return files, pixels, low, details, np.asarray(table["phash_details"].is_valid(), bool)


def _numbers(column: pa.ChunkedArray) -> Hashes:
    """The first 8 of the 16 bytes of each digest: enough to tell ten million images apart."""
    digests = pc.fill_null(column, bytes(16)).to_pylist()
    return np.frombuffer(b"".join(digest[:8] for digest in digests), np.uint64)
