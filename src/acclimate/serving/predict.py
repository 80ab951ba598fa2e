"""What a classifier says of images: one answer an image, a bad file never stops the rest."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acclimate.context import Context, usable_cores
from acclimate.data.images.contract import Pixels
from acclimate.data.images.decode import IMAGE_SUFFIXES
from acclimate.data.sources.folders import raise_unreadable
from acclimate.errors import DataError, UnreadableImage
from acclimate.evaluation.tta import averaged_over_views, safe_views, softmax
from acclimate.models.classifier import Classifier
from acclimate.models.runtime import RUNTIMES, Logits, best_runtime

_BATCH = 32
_HERE = Context()


@dataclass(frozen=True)
class Prediction:
    """What is said of one image.

    Attributes:
        path: As it was given or found.
        classes: The likeliest first; empty where the file cannot be read.
        probabilities: Of these classes.
        error: Why the file cannot be read.
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
    """Names the images, in order.

    Args:
        classifier: Any.
        images: Paths of files.
        top: How many classes to name for each.
        tta: Average over views that the classifier was taught keep the label.
        context: The device.

    Yields:
        Prediction: One for each path, also for those that cannot be read.

    Raises:
        ModelFileError: Views are asked for and the card does not say which keep the label.
    """
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
    """The image at a path, or all images below a folder, sorted.

    Args:
        place: File or folder.

    Returns:
        Paths.

    Raises:
        DataError: There is nothing, or a folder that cannot be read.
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
        raise DataError("no images here.", where=place)
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
