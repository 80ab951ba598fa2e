"""The training curve: one entry per epoch, with standard errors."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """One entry of the training curve.

    Attributes:
        epoch: Number of the epoch; 0 is the start, before any step.
        train_loss: Mean loss over the training images; NaN at the start.
        val_loss: Cross-entropy on val; NaN without val.
        val_accuracy: Accuracy on val, in [0, 1].
        learning_rate: Learning rate of the head at the end of the epoch.
        seconds: Seconds since the training began, those before a resume included.
        val_loss_error: Standard error of `val_loss` over the images of val.
    """

    epoch: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    seconds: float
    val_loss_error: float = 0.0


def standard_error(accuracy: float, images: int) -> float:
    """The standard error of an accuracy in [0, 1] over a number of images."""
    return math.sqrt(accuracy * (1 - accuracy) / images)
