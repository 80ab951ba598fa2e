"""How far the outputs of a compressed model are from the original's, without labels.

The divergence of the probabilities varies much less from image to image than accuracy does: 256
images rank candidates that differ by a tenth of a point in accuracy.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acclimate.data.dataset import Dataset, Rows
from acclimate.data.images.batches import ordered_batches
from acclimate.data.images.contract import Pixels
from acclimate.evaluation.tta import softmax
from acclimate.models.classifier import Classifier
from acclimate.models.runtime import Run

_BATCH = 32


@dataclass(frozen=True)
class Divergence:
    """The difference between the outputs of two models on the same images.

    Attributes:
        images: Number of images.
        kl: Kullback-Leibler divergence of the compressed model's probabilities from the original's,
            mean over the images, in nats.
        flips: Share of images for which the two predict different classes, in [0, 1].
    """

    images: int
    kl: float
    flips: float


class Reference:
    """The original's outputs on some images, to compare compressed models with.

    Args:
        classifier: Gives the input contract.
        run: Runs the original.
        dataset: The images.
        rows: Which ones; their pixels are kept in memory.
    """

    def __init__(self, classifier: Classifier, run: Run, dataset: Dataset, rows: Rows) -> None:
        contract = classifier.contract
        self._batches: list[Pixels] = [
            batch.images for batch in ordered_batches(dataset, rows, contract, batch_size=_BATCH)
        ]
        self._probabilities = [softmax(run(images)) for images in self._batches]

    def divergence(self, run: Run, images: int | None = None) -> Divergence:
        """Compares a compressed model with the original.

        Args:
            run: Runs the compressed model on pixels of the same size.
            images: Number of images, rounded up to whole batches; None for all.

        Returns:
            The divergence.
        """
        batches = len(self._batches) if images is None else -(-images // _BATCH)
        kl, flips = [], []
        for pixels, before in zip(
            self._batches[:batches], self._probabilities[:batches], strict=True
        ):
            after = softmax(run(pixels))
            kl.append(_kl(before, after))
            flips.append(before.argmax(1) != after.argmax(1))
        each, changed = np.concatenate(kl), np.concatenate(flips)
        return Divergence(len(each), float(each.mean()), float(changed.mean()))


def _kl(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,): the divergence for each image."""
    p, q = (np.maximum(some.astype(np.float64), 1e-12) for some in (before, after))
    return np.asarray((p * np.log(p / q)).sum(1))
