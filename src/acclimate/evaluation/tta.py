"""Several views of one image, their probabilities averaged: only views known to keep the label.

What is known stands in the classifier's card: the policy it was trained with. A classifier that
saw mirrored images under their labels may be asked about a mirrored image; one that did not, not.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate.data.images.contract import Pixels
from acclimate.data.images.fast_resize import flip_horizontal
from acclimate.errors import ModelFileError
from acclimate.models.classifier import Classifier
from acclimate.models.runtime import Logits, Run

View = Callable[[Pixels], Pixels]
"""uint8 (B, S, S, 3) to the same."""
_SHIFT = 16
"""Images are moved by one part in so many of their side."""


def shifted(down: int, right: int) -> View:
    """A view moved by a sixteenth of the side; what comes free repeats the edge.

    Args:
        down: 1, 0 or -1.
        right: 1, 0 or -1.

    Returns:
        The view.
    """

    def move(images: Pixels) -> Pixels:
        by = max(1, images.shape[1] // _SHIFT)
        height, width = images.shape[1:3]
        rows = np.clip(np.arange(height) - down * by, 0, height - 1)
        columns = np.clip(np.arange(width) - right * by, 0, width - 1)
        return np.ascontiguousarray(images[:, rows][:, :, columns])

    return move


_SHIFTS: dict[str, View] = {
    "down-right": shifted(1, 1),
    "down-left": shifted(1, -1),
    "up-right": shifted(-1, 1),
    "up-left": shifted(-1, -1),
}


def safe_views(classifier: Classifier) -> dict[str, View]:
    """The views of an image that a classifier was taught to give the same label.

    Args:
        classifier: Its card names the policy it was trained with.

    Returns:
        Name to view, beside the image as it is: shifts where it learnt from crops, a mirror
        image where it learnt from flips, and both.

    Raises:
        ModelFileError: The card names no policy.
    """
    policy = _policy(classifier)
    views: dict[str, View] = {}
    if _number(policy.get("crop_area"), 1.0) < 1:
        views |= _SHIFTS
    if policy.get("horizontal_flip") is True:
        views |= {f"mirrored {name}": _mirrored_after(view) for name, view in views.items()}
        views["mirrored"] = flip_horizontal
    return views


def averaged_over_views(run: Run, views: Mapping[str, View]) -> Run:
    """A network whose answer is the mean over an image and its views.

    Args:
        run: Pixels to logits.
        views: Beside the image as it is.

    Returns:
        Pixels to logarithms of mean probabilities, whose softmax are the means.
    """

    def averaged(images: Pixels) -> Logits:
        total = softmax(run(images))
        for view in views.values():
            total = total + softmax(run(view(images)))
        return np.asarray(np.log(np.maximum(total / (1 + len(views)), 1e-12)), np.float32)

    return averaged


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities, float32 (B, C), of logits (B, C)."""
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(exponents / exponents.sum(1, keepdims=True), np.float32)


def _mirrored_after(view: View) -> View:
    return lambda images: flip_horizontal(view(images))


def _policy(classifier: Classifier) -> Mapping[str, Any]:
    for step in reversed(classifier.card.steps):
        policy = step.settings.get("policy")
        if isinstance(policy, Mapping):
            return policy
    raise ModelFileError(
        "nothing is known of which views of an image keep its label: the model's card names no "
        "augmentation policy.",
        where=classifier.name,
        hint="Leave test-time augmentation off, or fine-tune the model first.",
    )


def _number(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, (int, float)) else otherwise
