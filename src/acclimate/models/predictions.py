"""Class probabilities of images, by a runtime that is opened once and kept with the classifier."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acclimate.cpu import usable_cores
from acclimate.data.images.contract import Pixels
from acclimate.data.images.given import OneImage, batched, pixels_of
from acclimate.errors import UnreadableImage
from acclimate.models.classifier import Classifier
from acclimate.models.onnx.int8_check import check_int8
from acclimate.models.runtime import RUNTIMES, Logits, Run, best_runtime, softmax

_BATCH = 32


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Attributes:
        path: Path of the image; None if it was not given as a path.
        classes: The most likely class first; empty if the image cannot be read.
        probabilities: Probabilities of these classes.
        error: The reason if the image cannot be read.
    """

    path: Path | None
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    error: str | None = None

    @property
    def label(self) -> str | None:
        """The most likely class; None if the image cannot be read."""
        return self.classes[0] if self.classes else None


def kept_run(classifier: Classifier, device: str = "auto") -> Run:
    """The fastest runtime of a classifier, opened and checked at the first call only.

    To open an ONNX Runtime session takes as long as a hundred predictions, and the check of an
    int8 graph takes two sessions.

    Args:
        classifier: Keeps what is opened, for as long as it exists.
        device: "auto", "cpu", "cuda", …

    Returns:
        A function from pixels to logits, which may be called from several threads.

    Raises:
        ModelFileError: ONNX Runtime cannot run the graph, or the processor computes it differently
            from the one on which the model's accuracy was measured.
    """
    if device not in classifier.opened:
        check_int8(classifier)
        runtime = RUNTIMES[best_runtime(classifier, device)]
        classifier.opened[device] = runtime(classifier, device)
    found: Run = classifier.opened[device]
    return found


def predictions(
    classifier: Classifier, run: Run, images: Iterable[OneImage], *, top: int = 1
) -> Iterator[Prediction]:
    """Classifies images, in the given order. An unreadable one does not stop the others.

    Args:
        classifier: Has the classes and the input contract.
        run: From pixels to logits.
        images: Paths, bytes, Pillow images.
        top: Number of classes per image.

    Yields:
        Prediction: One per image, including those that cannot be read.
    """

    def load(image: OneImage) -> Pixels | str:
        try:
            return pixels_of(image, classifier.contract)
        except UnreadableImage as error:
            return error.message

    with ThreadPoolExecutor(usable_cores(), "predict") as pool:
        for chunk in batched(images, _BATCH):
            loaded = list(pool.map(load, chunk)) if len(chunk) > 1 else [load(chunk[0])]
            readable = [pixels for pixels in loaded if not isinstance(pixels, str)]
            found: Iterator[Logits] = iter(softmax(run(np.stack(readable))) if readable else ())
            for image, pixels in zip(chunk, loaded, strict=True):
                path = image if isinstance(image, Path) else None
                if isinstance(pixels, str):
                    yield Prediction(path, (), (), pixels)
                    continue
                p = next(found)
                order = np.argsort(-p, kind="stable")[:top]
                names = tuple(classifier.classes[i] for i in order)
                yield Prediction(path, names, tuple(float(p[i]) for i in order))
