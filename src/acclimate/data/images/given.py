"""The forms in which an image may be given: a path, bytes, a file, a Pillow image, an array."""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from acclimate.arguments import kind_of
from acclimate.data.dataset import Dataset
from acclimate.data.images.contract import InputContract, Pixels
from acclimate.data.images.decode import decode, is_image, orient
from acclimate.data.images.decode_limits import PlainDecodeLimits
from acclimate.data.images.samples import rgb
from acclimate.data.sources.folders import raise_unreadable
from acclimate.errors import DataError, UnreadableImage, WrongType, listed

OneImage = Path | bytes | Image.Image
"""The path of a file, its bytes, or a decoded image of any mode."""
AnyImages = Any
"""One image or many: a path or folder, bytes, a binary file, a Pillow image, a uint8 array
(H, W), (H, W, C) or (B, H, W, C), a uint8 tensor (C, H, W) or (B, C, H, W), a `Dataset`, a column
or a table of paths, or any iterable or torch data set of these, with or without labels."""

_WANTED = (
    "Give a path, bytes, a file opened as 'rb', a Pillow image, a uint8 array (H, W, 3), "
    "or a list or column of these."
)
_NAMES = ("image", "img", "path", "file", "file_name", "filename", "bytes")
"""Columns of a table, or keys of a row, that hold the image."""
_MAX_BYTES = PlainDecodeLimits().max_file_mb << 20
_CHANNELS = (1, 3, 4)
_LOADING = threading.Lock()


def find_images(place: Path) -> list[Path]:
    """Returns the image at a path, or all images below a folder, sorted.

    Args:
        place: File or folder.

    Returns:
        Paths.

    Raises:
        DataError: There are no images, or a folder cannot be read.
    """
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise DataError("no such file or folder.", where=place)
    found = []
    for where, folders, files in os.walk(place, onerror=raise_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(where) / name
            for name in sorted(files)
            if not name.startswith(".") and is_image(Path(where) / name)
        ]
    if not found:
        raise DataError("the folder has no images.", where=place)
    return found


def images_of(given: AnyImages) -> Iterator[OneImage]:
    """The images of whatever holds them, in order. Files are not opened yet.

    Args:
        given: One image or many; see `AnyImages`.

    Yields:
        OneImage: One at a time, so that a generator is not read ahead.

    Raises:
        DataError: There is no such file, or an array has another shape or type than an image.
        WrongType: Something that holds no image.
    """
    if isinstance(given, (str, os.PathLike)):
        yield from find_images(Path(os.fspath(given)))
        return
    single = list(_images_in(given, "images", several=True))
    if single:
        yield from single
        return
    for number, item in enumerate(_items(given)):
        where = f"images[{number}]"
        # Data sets and loaders give pairs of an image and its label.
        image = item[0] if isinstance(item, tuple) and item else item
        found = list(_images_in(image, where))
        if not found:
            raise WrongType(f"is {kind_of(image)}, not an image.", where=where, hint=_WANTED)
        yield from found


def pixels_of(image: OneImage, contract: InputContract) -> Pixels:
    """Decodes an image and fits it to a network's size.

    Args:
        image: In any of its forms. A Pillow image is not changed.
        contract: The input contract of the network.

    Returns:
        uint8, (image_size, image_size, 3): of a file, its bytes and its decoded image the same.

    Raises:
        UnreadableImage: It is missing, broken or not an image.
    """
    if isinstance(image, Path):
        return contract.read(image)
    if isinstance(image, bytes):
        side, rules = contract.decoded_side, contract.rules
        return contract.fit(decode(image, Path("bytes"), min_side=side, rules=rules))
    if image.mode == "F":
        raise UnreadableImage("image has floating-point samples, whose range is not known.")
    try:
        with _LOADING:  # the same image may be in a list twice, and is decoded in threads
            image.load()
        upright = orient(image)
        return contract.fit(rgb(upright, contract.rules))
    except Exception as error:  # Pillow's decoders raise errors of many types on hostile bytes
        raise UnreadableImage("image is truncated or broken.") from error


def batched(images: Iterable[OneImage], size: int) -> Iterator[list[OneImage]]:
    """Lists of a number of images, the last one perhaps shorter; nothing is read ahead."""
    chunk: list[OneImage] = []
    for image in images:
        chunk.append(image)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _images_in(given: Any, where: str, *, several: bool = False) -> Iterator[OneImage]:  # noqa: ANN401 - whatever it is
    """The image, or the batch of images, that a value is; nothing if it is not an image itself."""
    if isinstance(given, (str, os.PathLike)):
        yield Path(os.fspath(given))
    elif isinstance(given, (bytes, bytearray, memoryview)):
        yield bytes(given)
    elif isinstance(given, Image.Image):
        yield given
    elif callable(getattr(given, "read", None)):
        yield _content(given, where)
    elif isinstance(given, Mapping):
        yield from _images_in_row(given, where, several=several)
    elif callable(getattr(given, "detach", None)):  # a tensor of torch: channels first
        tensor = given.detach().cpu()
        if "float" in str(tensor.dtype):
            raise _not_bytes(f"{tensor.dtype} {tuple(tensor.shape)}", where)
        array = tensor.numpy()
        yield from _from_array(np.moveaxis(array, -3, -1) if array.ndim > 2 else array, where)
    elif hasattr(given, "__array__") and hasattr(given, "ndim") and not _is_table(given):
        array = np.asarray(given)
        if array.dtype.kind not in "OUST":  # a column of paths is not an image
            yield from _from_array(array, where)


def _images_in_row(row: Mapping[str, Any], where: str, *, several: bool) -> Iterator[OneImage]:
    name = next((name for name in _NAMES if row.get(name) is not None), None)
    if name is None:
        raise WrongType(f"has no image among {listed(list(map(str, row)))}.", where=where)
    value = row[name]
    if several and isinstance(value, (list, tuple)):  # a table as a mapping of columns
        yield from images_of(value)
    else:
        yield from _images_in(value, f"{where}[{name!r}]")


def _items(given: Any) -> Iterable[Any]:  # noqa: ANN401 - whatever it is
    """The items of a container; pairs and rows as they are."""
    if isinstance(given, Dataset):
        return [given.path(int(row)) for row in given.rows(domain=None)]
    if _is_table(given):
        name = next((name for name in _NAMES if name in given.columns), None)
        if name is None:
            names = listed([str(n) for n in given.columns])
            raise WrongType(
                f"is a table with the columns {names}.",
                where="images",
                hint="Give the column with the images: table['column'].",
            )
        return list(given[name])
    if callable(getattr(given, "to_pylist", None)):  # an array of Arrow
        return list(given.to_pylist())
    if isinstance(given, Iterable):
        return given
    if hasattr(given, "__len__") and hasattr(given, "__getitem__"):
        # A data set of torch, which need not end by an IndexError.
        return (given[number] for number in range(len(given)))
    raise WrongType(f"is {kind_of(given)}, not an image.", where="images", hint=_WANTED)


def _is_table(given: object) -> bool:
    """Whether a value is a table of columns, such as one of pandas or polars."""
    return hasattr(given, "columns") and hasattr(given, "__getitem__")


def _content(file: Any, where: str) -> bytes:  # noqa: ANN401 - has `read`
    """The bytes of an open file, from its beginning if it can be rewound, as Pillow does."""
    seekable = getattr(file, "seekable", None)
    if callable(seekable) and seekable():
        file.seek(0)
    content = file.read(_MAX_BYTES + 1)
    if not isinstance(content, bytes):
        raise WrongType(
            f"is {kind_of(file)} that does not give bytes.", where=where, hint="Open it as 'rb'."
        )
    if len(content) > _MAX_BYTES:
        raise DataError(f"file is larger than {_MAX_BYTES >> 20} MB.", where=where)
    return content


def _from_array(array: NDArray[Any], where: str) -> Iterator[Image.Image]:
    """One image or a batch of them as Pillow images."""
    shown = f"{array.dtype} {array.shape}"
    if array.dtype == np.uint16 and array.ndim == 2 and array.size:
        yield Image.fromarray(array)
        return
    if array.dtype != np.uint8:
        raise _not_bytes(shown, where)
    good = array.ndim == 2 or (array.ndim in (3, 4) and array.shape[-1] in _CHANNELS)
    if not good or not array.size:
        raise DataError(
            f"array is {shown}, not an image.",
            where=where,
            hint="Give (H, W), (H, W, 3) or a batch (B, H, W, 3); a torch tensor (3, H, W).",
        )
    for one in array if array.ndim == 4 else (array,):
        flat = one[..., 0] if one.ndim == 3 and one.shape[-1] == 1 else one
        yield Image.fromarray(np.ascontiguousarray(flat))


def _not_bytes(shown: str, where: str) -> DataError:
    return DataError(
        f"array is {shown.removeprefix('torch.')}, not uint8.",
        where=where,
        hint="Give samples from 0 to 255, neither scaled nor normalized: the model does both.",
    )
