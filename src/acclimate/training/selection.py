"""Which epoch's weights are kept, and when to stop."""

import math

from acclimate.training.checkpoint import Epoch


def preferred(line: Epoch, kept: Epoch, curve: list[Epoch], images: int, least: float) -> bool:
    """Whether an epoch takes the place of the one kept so far.

    Never one below the least accuracy. Among the others, those within one standard error of the
    best cannot be told apart on so few val images (the rule of Breiman et al. 1984): there the
    lower loss decides. The start's loss does not count: a fitted head is better calibrated than a
    network that learns from smoothed labels. Without val, the later epoch.

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
    bar = best - math.sqrt(best * (1 - best) / images)
    if line.val_accuracy < bar:
        return False
    return kept.val_accuracy < bar or line.val_loss < kept.val_loss


def stale(curve: list[Epoch]) -> int:
    """Epochs since val accuracy or val loss was last better than ever before.

    Args:
        curve: The start first.

    Returns:
        How many.
    """
    last = 0
    for index, line in enumerate(curve[1:], 1):
        before = curve[:index]
        better = line.val_accuracy > max(e.val_accuracy for e in before)
        if better or not line.val_loss >= min(e.val_loss for e in before):
            last = index
    return len(curve) - 1 - last
