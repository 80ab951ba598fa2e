"""Classifies images. An unreadable file gets an error and does not stop the others."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acclimate.context import Context
from acclimate.cpu import usable_cores
from acclimate.data.images.contract import Pixels
from acclimate.data.images.decode import IMAGE_SUFFIXES
from acclimate.data.sources.folders import raise_unreadable
from acclimate.errors import DataError, UnreadableImage
from acclimate.evaluation.tta import averaged_over_views, safe_views, softmax
from acclimate.models.classifier import Classifier
from acclimate.models.onnx.int8_check import check_int8
from acclimate.models.runtime import RUNTIMES, Logits, best_runtime

_BATCH = 32
_HERE = Context()


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Attributes:
        path: Path of the image.
        classes: The most likely class first; empty if the file cannot be read.
        probabilities: Probabilities of these classes.
        error: The reason if the file cannot be read.
    """

    path: Path
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    error: str | None = None


def predict(
    classifier: Classifier,
    images: Iterable[Path],
    *,
    top: int = 1,
    tta: bool = False,
    context: Context = _HERE,
) -> Iterator[Prediction]:
    """Classifies images, in the given order.

    Args:
        classifier: Any classifier.
        images: Paths of files.
        top: Number of classes per image.
        tta: Average over shifted and flipped views (test-time augmentation).
        context: The run, with the device.

    Yields:
        Prediction: One per path, including files that cannot be read.

    Raises:
        ModelFileError: `tta` is set, but the classifier's card has no augmentation policy.
    """
    check_int8(classifier)
    run = RUNTIMES[best_runtime(classifier, context.device)](classifier, context.device)
    if tta:
        run = averaged_over_views(run, safe_views(classifier))

    def load(path: Path) -> Pixels | str:
        try:
            return classifier.contract.read(path)
        except UnreadableImage as error:
            return error.message

    with ThreadPoolExecutor(usable_cores(), "predict") as pool:
        for paths in _chunks(images, _BATCH):
            loaded = list(pool.map(load, paths))
            readable = [pixels for pixels in loaded if not isinstance(pixels, str)]
            found: Iterator[Logits] = iter(softmax(run(np.stack(readable))) if readable else ())
            for path, pixels in zip(paths, loaded, strict=True):
                if isinstance(pixels, str):
                    yield Prediction(path, (), (), pixels)
                    continue
                p = next(found)
                order = np.argsort(-p, kind="stable")[:top]
                names = tuple(classifier.classes[i] for i in order)
                yield Prediction(path, names, tuple(float(p[i]) for i in order))


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
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
        ]
    if not found:
        raise DataError("the folder has no images.", where=place)
    return found


def _chunks(paths: Iterable[Path], size: int) -> Iterator[list[Path]]:
    chunk: list[Path] = []
    for path in paths:
        chunk.append(path)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
