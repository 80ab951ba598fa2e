"""The accuracy of predictions for images whose true classes are known."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acclimate.cleaning.settings import Clean
from acclimate.cleaning.unreadable import unreadable
from acclimate.context import Context
from acclimate.data.dataset import HOME
from acclimate.data.settings import Source
from acclimate.data.sources.read import read
from acclimate.errors import DataError, count
from acclimate.evaluation.evaluate import roles_of_images
from acclimate.evaluation.metrics import Interval, Outcomes, metric_interval
from acclimate.evaluation.settings import Evaluate
from acclimate.files import resolved
from acclimate.models.classifier import Classifier
from acclimate.models.predictions import Prediction
from acclimate.models.used_images import describe

_DEFAULT = Evaluate()


@dataclass(frozen=True)
class LabelledAccuracy:
    """How often predictions agree with the true classes.

    Attributes:
        accuracy: With its interval; None if the model was made with all of the images.
        images: Number of images that the accuracy is of.
        unlabelled: Number of images that could be read and have no true class.
        roles: uint8, (M,): what the model used each labelled image for; see
            `acclimate.models.used_images`.
        included: Whether images that the model was made with count.
    """

    accuracy: Interval | None
    images: int
    unlabelled: int
    roles: NDArray[np.uint8]
    included: bool

    def lines(self) -> list[str]:
        """The figure and what it is of, in sentences."""
        lines = []
        if self.unlabelled:
            lines.append(f"{count(self.unlabelled, 'image')} without a label, not counted.")
        used = describe(self.roles) if self.roles.any() else ""
        if self.accuracy is None:
            return [
                *lines,
                f"no accuracy: the model was made with these images ({used}). Give others, or add "
                "--include-training to get a figure that is too high.",
            ]
        if used and self.included:
            lines.append(f"{used}; they are included, so the accuracy is too high.")
        elif used:
            lines.append(f"{used}; they are left out.")
        shown = self.accuracy
        lines.append(
            f"accuracy {shown.value:.3f} [{shown.low:.3f}, {shown.high:.3f}] on "
            f"{count(self.images, 'labelled image')}"
        )
        return lines


class TrueClasses:
    """Compares predictions with the true classes of their images.

    Args:
        classifier: The model that predicts.
        place: A folder with a folder per class, a list or a saved data set.
        context: The run.

    Raises:
        DataError: The place has no labelled images, or has classes the model does not know.
    """

    def __init__(self, classifier: Classifier, place: Path, context: Context) -> None:
        # The images were named one by one or by their folder: a list may name them anywhere.
        listed = read(place, Source(allow_outside=True))
        if not (listed.labels >= 0).any():
            raise DataError(
                "the images here have no labels.",
                where=place,
                hint="Give a folder with one folder per class, or a list with a label column.",
            )
        self._classifier, self._context = classifier, context
        self._labels = listed.with_classes(classifier.classes, classifier.name)
        labelled = np.flatnonzero(self._labels.labels >= 0).tolist()
        self._rows = {_key(self._labels.path(row)): row for row in labelled}
        self._found: dict[int, tuple[int, float]] = {}  # row to predicted class and probability
        self._unlabelled = 0

    def compare(self, prediction: Prediction) -> str | None:
        """Takes a prediction into account.

        Args:
            prediction: Of one image; only files can have a true class.

        Returns:
            The true class; None if it is not known.
        """
        path = prediction.path
        row = None if path is None else self._rows.get(_key(path))
        if row is None:
            self._unlabelled += prediction.error is None
            return None
        if prediction.error is None:
            predicted = self._classifier.classes.index(prediction.classes[0])
            self._found[row] = (predicted, prediction.probabilities[0])
        return self._classifier.classes[int(self._labels.labels[row])]

    def accuracy(self, *, include_training: bool = False) -> LabelledAccuracy:
        """The accuracy so far, of images that the model was not made with.

        Args:
            include_training: Count images that the model was made with too.

        Returns:
            The accuracy, and what it is of.

        Raises:
            DataError: None of the images has a label.
        """
        if not self._found:
            raise DataError(
                f"none of the {count(self._unlabelled, 'image')} is among the labelled ones.",
                where=self._labels.shown_root,
                hint="The paths in --labels must be those of the images.",
            )
        rows = np.asarray(sorted(self._found))
        roles = self._roles(rows)
        counted = rows if include_training else rows[roles == 0]
        figure = self._figure(counted) if len(counted) else None
        return LabelledAccuracy(figure, len(counted), self._unlabelled, roles, include_training)

    def _roles(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        if self._classifier.used_images is None:
            return np.zeros(len(rows), np.uint8)
        keep = np.zeros(len(self._labels), bool)
        keep[rows] = True
        chosen = self._labels.with_columns({"keep": keep})
        measured = unreadable(chosen, Clean(), self._context)  # digests and perceptual hashes
        return roles_of_images(self._classifier, measured, rows, known="")

    def _figure(self, rows: NDArray[np.int64]) -> Interval:
        found = [self._found[row] for row in rows.tolist()]
        outcomes = Outcomes(
            self._labels.labels[rows],
            np.asarray([predicted for predicted, _ in found]),
            np.asarray([probability for _, probability in found], np.float32),
            len(self._classifier.classes),
        )
        return metric_interval("accuracy", outcomes, HOME, _DEFAULT, self._context)


def _key(path: Path) -> Path:
    return resolved(path) or path.absolute()
