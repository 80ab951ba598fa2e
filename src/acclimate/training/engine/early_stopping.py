"""Which epoch's weights are kept, and when to stop."""

import math

from acclimate.training.curve import Epoch, standard_error


def preferred(line: Epoch, kept: Epoch, curve: list[Epoch], images: int, least: float) -> bool:
    """Whether an epoch takes the place of the one kept so far.

    Never one below the least accuracy. Among the others val decides as far as it can tell (after
    the rule of Breiman et al. 1984): out go those whose accuracy is more than two standard errors
    below the best, then those whose loss is more than one above the lowest. Of what is left the
    latest is kept: the rate has fallen further there, and a hair on a few val images is no reason
    to come back to weights from the peak of the rate. The start's loss does not count: a fitted
    head is better calibrated than a network that learns from smoothed labels. Without val, the
    later epoch.

    Args:
        line: The epoch.
        kept: The one kept so far.
        curve: All epochs up to this one, the start first.
        images: In val.
        least: Val accuracy that the kept epoch must have.

    Returns:
        Whether it does.
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
    """Epochs since val accuracy or val loss was last better than in any trained epoch before.

    The start does not count: the first epochs mostly fall below a fitted head, and one that climbs
    back is getting better.

    Args:
        curve: The start first.

    Returns:
        How many.
    """
    trained = curve[1:]
    last = 0
    for index, line in enumerate(trained):
        before = trained[:index]
        better = not before or line.val_accuracy > max(e.val_accuracy for e in before)
        if better or not line.val_loss >= min(e.val_loss for e in before):
            last = index + 1
    return len(trained) - last
