"""Test-time augmentation: averages the probabilities of several views of an image.

Only views that keep the label are used. They follow from the augmentation policy in the
classifier's card: a flipped view is used only if the classifier was trained on flipped images.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from acclimate.data.images.contract import Pixels
from acclimate.data.images.fast_resize import flip_horizontal
from acclimate.errors import ModelFileError
from acclimate.models.classifier import Classifier
from acclimate.models.runtime import Logits, Run
from acclimate.models.runtime import softmax as softmax

View = Callable[[Pixels], Pixels]
"""A function from uint8 (B, S, S, 3) to the same shape."""
_SHIFT = 16
"""Images are shifted by this fraction of their side: 1/16."""


def shifted(down: int, right: int) -> View:
    """A view shifted by 1/16 of the side; the border is filled with the edge pixels.

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
    """The views that keep the label, according to the policy that a classifier was trained with.

    Args:
        classifier: Its card has the policy.

    Returns:
        Name to view: shifts if it was trained on crops, a horizontal flip if it was trained on
        flips, and their combinations. The unchanged image is not included.

    Raises:
        ModelFileError: The card has no policy.
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
    """Averages the probabilities of an image and its views.

    Args:
        run: A function from pixels to logits.
        views: The views, without the unchanged image.

    Returns:
        A function from pixels to logarithms of the mean probabilities.
    """

    def averaged(images: Pixels) -> Logits:
        total = softmax(run(images))
        for view in views.values():
            total = total + softmax(run(view(images)))
        return np.asarray(np.log(np.maximum(total / (1 + len(views)), 1e-12)), np.float32)

    return averaged


def _mirrored_after(view: View) -> View:
    return lambda images: flip_horizontal(view(images))


def _policy(classifier: Classifier) -> Mapping[str, Any]:
    for step in reversed(classifier.card.steps):
        policy = step.settings.get("policy")
        if isinstance(policy, Mapping):
            return policy
    raise ModelFileError(
        "the views for test-time augmentation are unknown, because the model's card has no "
        "augmentation policy.",
        where=classifier.name,
        hint="Turn test-time augmentation off, or fine-tune the model first.",
    )


def _number(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, (int, float)) else otherwise
