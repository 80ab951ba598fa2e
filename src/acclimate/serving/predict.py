"""Classifies images, if wanted with several views of each. An unreadable one stops no other."""

from collections.abc import Iterable, Iterator

from acclimate.context import Context
from acclimate.data.images.given import OneImage
from acclimate.evaluation.tta import averaged_over_views, safe_views
from acclimate.models.classifier import Classifier
from acclimate.models.predictions import Prediction, kept_run, predictions

_HERE = Context()


def predict(
    classifier: Classifier,
    images: Iterable[OneImage],
    *,
    top: int = 1,
    tta: bool = False,
    context: Context = _HERE,
) -> Iterator[Prediction]:
    """Classifies images, in the given order.

    Args:
        classifier: Any classifier. The runtime that is opened for it is kept with it.
        images: Paths of files, bytes, Pillow images.
        top: Number of classes per image.
        tta: Average over shifted and flipped views (test-time augmentation).
        context: The run, with the device.

    Yields:
        Prediction: One per image, including those that cannot be read.

    Raises:
        ModelFileError: `tta` is set, but the classifier's card has no augmentation policy.
    """
    run = kept_run(classifier, context.device)
    if tta:
        run = averaged_over_views(run, safe_views(classifier))
    yield from predictions(classifier, run, images, top=top)
