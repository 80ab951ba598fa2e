"""The training curve: one line an epoch, and how certain its figures are."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """One line of the training curve.

    Attributes:
        epoch: 0 is the start, before any step.
        train_loss: Mean over the images seen; NaN at the start.
        val_loss: Cross-entropy on val.
        val_accuracy: In [0, 1].
        learning_rate: Of the head, at the end.
        seconds: Since training began, resumed time included.
        val_loss_error: Standard error of `val_loss`, from how val's images differ.
    """

    epoch: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    seconds: float
    val_loss_error: float = 0.0


def standard_error(accuracy: float, images: int) -> float:
    """Of an accuracy in [0, 1] that was measured on so many images."""
    return math.sqrt(accuracy * (1 - accuracy) / images)
