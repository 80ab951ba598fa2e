"""Model selection and early stopping."""

import math

from acclimate.training.curve import Epoch, standard_error


def preferred(line: Epoch, kept: Epoch, curve: list[Epoch], images: int, least: float) -> bool:
    """Whether an epoch replaces the one kept so far.

    Epochs below the least accuracy are never kept. Of the others, those whose accuracy is more than
    two standard errors below the best are excluded, then those whose loss is more than one standard
    error above the lowest (after the one-standard-error rule of Breiman et al. 1984). The latest of
    the rest is kept: its learning rate is lower, and a small difference on few val images does not
    justify weights from the peak of the learning rate. The loss of the start does not count: a
    fitted head is better calibrated than a network trained with label smoothing. Without val the
    later epoch is kept.

    Args:
        line: The epoch.
        kept: The epoch kept so far.
        curve: All epochs up to this one, the start first.
        images: Number of val images.
        least: Lowest val accuracy of an epoch that may be kept.

    Returns:
        Whether it replaces the other.
    """
    if math.isnan(line.val_loss):
        return True
    trained = curve[1:]
    if line.val_accuracy < least:
        return False
    if kept.epoch == 0:
        return True
    best = max(e.val_accuracy for e in trained)
    bar = best - 2 * standard_error(best, images)
    if line.val_accuracy < bar:
        return False
    if kept.val_accuracy < bar:
        return True
    able = [e for e in trained if e.val_accuracy >= max(bar, least)]
    lowest = min(able, key=lambda e: e.val_loss)
    return line.val_loss <= lowest.val_loss + lowest.val_loss_error


def stale(curve: list[Epoch]) -> int:
    """Number of epochs since val accuracy or val loss last improved on all trained epochs before.

    The start does not count: the first epochs are mostly worse than a fitted head, and a network
    that recovers is improving.

    Args:
        curve: The start first.

    Returns:
        The number of epochs.
    """
    trained = curve[1:]
    last = 0
    for index, line in enumerate(trained):
        before = trained[:index]
        better = not before or line.val_accuracy > max(e.val_accuracy for e in before)
        if better or not line.val_loss >= min(e.val_loss for e in before):
            last = index + 1
    return len(trained) - last
