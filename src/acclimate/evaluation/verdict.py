"""What a run has shown, in plain sentences: whether the final model is better than the probe."""

import math
from collections.abc import Mapping
from statistics import NormalDist

from acclimate.errors import count
from acclimate.evaluation.comparison import Comparison, Difference, compare
from acclimate.evaluation.evaluate import Evaluation

_POWER = 0.8
"""Probability with which the needed number of images would show the difference."""
_MOST_IMAGES = 1_000_000


def verdict(
    evaluations: Mapping[str, Evaluation], comparisons: Mapping[str, Comparison]
) -> tuple[str, ...]:
    """What a run has shown.

    Args:
        evaluations: Label to evaluation: "probe", "final", and "fine-tuned" if the run fine-tuned.
        comparisons: "gain", from the probe to the final model.

    Returns:
        One or two sentences; the first says whether the final model is better than the probe.
    """
    found = [_gain(comparisons["gain"])]
    if "fine-tuned" in evaluations:
        tuned = compare(evaluations["probe"], evaluations["fine-tuned"])
        change = next(iter(tuned.differences.values()))
        if change.accuracy.value < 0:
            found.append(
                "Fine-tuning did not help: the fine-tuned model predicts fewer "
                f"{evaluations['probe'].split} images correctly than the probe ({_points(change)})."
            )
    return tuple(found)


def _gain(comparison: Comparison) -> str:
    found = next(iter(comparison.differences.values()))
    images = count(found.images, "image")
    if comparison.verdict == "better":
        return f"The final model is better than the probe: {_points(found)} on {images}."
    if comparison.verdict == "worse":
        return (
            f"The final model is worse than the probe: {_points(found)} on {images}. Use the "
            "probe, or give more training images."
        )
    if comparison.verdict == "as good":
        return (
            f"The final model is as good as the probe, and not shown to be better: "
            f"{_points(found)} on {images}."
        )
    needed = images_needed(found)
    more = f"; about {needed:,} would" if needed is not None and needed > found.images else ""
    return (
        f"{images[:1].upper()}{images[1:]} cannot show whether the final model is better than the "
        f"probe ({_points(found)}){more}."
    )


def _points(difference: Difference) -> str:
    value, low, high = (
        100 * v
        for v in (difference.accuracy.value, difference.accuracy.low, difference.accuracy.high)
    )
    return f"{value:+.1f} points, interval {low:+.1f} to {high:+.1f}"


def images_needed(difference: Difference, confidence: float = 0.95) -> int | None:
    """How many images would probably show a difference, if it is as large as measured.

    The sample size of McNemar's test by Connor 1987, "Sample size for testing differences in
    proportions for the paired-sample design", Biometrics 43.

    Args:
        difference: As measured.
        confidence: Confidence level of the test, in (0, 1).

    Returns:
        The number for a power of 0.8, with two significant digits; None if nothing differs, or
        if it is more than a million.
    """
    gained = difference.only_after / difference.images
    lost = difference.only_before / difference.images
    shift, discordant = abs(gained - lost), gained + lost
    if shift == 0:
        return None
    normal = NormalDist()
    z, power = normal.inv_cdf((1 + confidence) / 2), normal.inv_cdf(_POWER)
    root = z * math.sqrt(discordant) + power * math.sqrt(max(discordant - shift**2, 0))
    needed = math.ceil(root**2 / shift**2)
    if needed > _MOST_IMAGES:
        return None
    step = int(10 ** max(len(str(needed)) - 2, 0))
    return math.ceil(needed / step) * step
