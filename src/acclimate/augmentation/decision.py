"""Decides by the test and by what is usual whether an augmentation keeps labels valid."""

import numpy as np
from numpy.typing import NDArray

from acclimate.augmentation.data_kind import DataKind
from acclimate.augmentation.evidence import Evidence
from acclimate.augmentation.label_probe import Hits, ProbeHits
from acclimate.augmentation.prior import (
    CONFIDENCE,
    CostPrior,
    SharePrior,
    expected_share,
    joined,
    operation_prior,
)
from acclimate.evaluation.comparison import paired_interval
from acclimate.evaluation.metrics import Interval

_USUAL_SHARE, _MAX_USUAL_SHARE = SharePrior(0.55), 0.75
"""For mirrored photographs: the usual share of images that are distinguished from their copies, and
the largest expected one that is accepted. Measured on 112 images, five times: photographs 0.44 to
0.54, flowers 0.43 to 0.67, waste lit from one side 0.58 to 0.74; digits 0.81 to 0.98, arrows 1."""
_UNUSUAL_SHARE, _MAX_UNUSUAL_SHARE = SharePrior(0.9), 0.6
"""For all other flips. If half of the images are distinguished, which is chance, about 200 images
are needed to accept the flip."""
_USUAL_GAIN = CostPrior(0.0, 1.0)
"""Points gained on plain images by a probe that was also fitted on copies."""
_USUAL_FLIP, _UNUSUAL_FLIP = CostPrior(0.0), CostPrior(5.0, 3.0)
_INVERTING = frozenset(("invert", "solarize", "posterize"))
"""Operations that at full strength turn colors into others: daisies become blue."""
_FLIPPED = {"horizontal_flip": "mirrored", "vertical_flip": "upside-down"}
_LOOK_ALIKE = {"horizontal_flip": "look alike mirrored", "vertical_flip": "look alike upside down"}


def operation_evidence(
    name: str, strength: float, hits: ProbeHits, tolerance: float, kind: DataKind
) -> Evidence:
    """Whether an operation keeps labels valid at a strength.

    It does if the cost that is expected from the test and from other data is within the allowance:
    the tolerance, or a fifth of the probe's errors if that is more, since a weak probe loses more
    on any image unlike those it was fitted on. On images with color, inverting them, and solarizing
    or posterizing them at full strength, must help as well: the probe that was also fitted on
    copies must classify the images themselves better than the first, by the interval of the
    difference.

    Args:
        name: Of the operation.
        strength: In [0, 1].
        hits: Of the probes.
        tolerance: Points of accuracy.
        kind: Of the data.

    Returns:
        The evidence.
    """
    prior = operation_prior(name, strength, kind)
    line = _measured(name, strength, hits, hits.learnt, prior)
    allowed = max(tolerance, 100 * (1 - line.plain) / 5)
    if _expected(line) > allowed:
        return line.model_copy(update={"reason": _too_expensive(line, allowed)})
    if kind.color and inverts(name, strength):
        gain = joined(_drop(hits.plain_learnt, hits.plain), _USUAL_GAIN)
        if gain.low <= 0:
            reason = "on color images it must help, which the test does not show"
            return line.model_copy(update={"reason": reason})
        reason = f"it helps: by {gain.value:.1f} points"
        return line.model_copy(update={"kept": True, "reason": reason})
    return line.model_copy(update={"kept": True, "reason": "the labels stay readable"})


def flip_evidence(
    name: str, hits: ProbeHits, detected: NDArray[np.bool_], tolerance: float, kind: DataKind
) -> Evidence:
    """Whether a flip keeps labels valid.

    Photographs are mirrored unless the test speaks against it. Other images are mirrored, and any
    images turned upside down, only if the test speaks for it, and never if the flip exchanges two
    classes by their names.

    Args:
        name: Of the flip.
        hits: Of the probes.
        detected: For each image, whether it was distinguished from its copy.
        tolerance: Points of accuracy.
        kind: Of the data.

    Returns:
        The evidence.
    """
    usual = name == "horizontal_flip" and kind.mirrors
    line = _measured(name, 1.0, hits, hits.copies, _USUAL_FLIP if usual else _UNUSUAL_FLIP)
    told = float(detected.mean())
    line = line.model_copy(update={"told": told})
    prior = _USUAL_SHARE if usual else _UNUSUAL_SHARE
    share = expected_share(int(detected.sum()), len(detected), prior)
    shown = f"{100 * told:.0f} % of images can be distinguished from their {_FLIPPED[name]} copies"
    if name in kind.exchanged:
        one, other = kind.exchanged[name]
        return line.model_copy(update={"reason": f"it exchanges the classes {one!r} and {other!r}"})
    if share > (_MAX_USUAL_SHARE if usual else _MAX_UNUSUAL_SHARE):
        reason = shown if usual else f"{_against(name, kind)}, and {shown}"
        return line.model_copy(update={"reason": reason})
    if _expected(line) > tolerance:
        return line.model_copy(update={"reason": _too_expensive(line, tolerance)})
    which = "photographs" if usual else "these images"
    reason = f"{which} {_LOOK_ALIKE[name]} ({shown})"
    return line.model_copy(update={"kept": True, "reason": reason})


def _against(name: str, kind: DataKind) -> str:
    """Why a flip is not usual."""
    if name == "vertical_flip":
        return "most images have an up and a down"
    if kind.characters:
        return "the classes are named for characters"
    return "the images are not color photographs"


def inverts(name: str, strength: float) -> bool:
    """Whether an operation turns colors into others.

    Args:
        name: Of the operation.
        strength: In [0, 1].

    Returns:
        True at full strength of those that can, and at any strength of invert: a lower one inverts
        fewer images, each of them as much.
    """
    return name == "invert" or (name in _INVERTING and strength == 1)


def _expected(line: Evidence) -> float:
    assert line.expected is not None
    return line.expected


def _too_expensive(line: Evidence, allowed: float) -> str:
    return f"expected to cost {_expected(line):.1f} points, more than {allowed:.1f}"


def _measured(
    name: str, strength: float, hits: ProbeHits, on_copies: Hits, prior: CostPrior
) -> Evidence:
    """The figures, without the decision."""
    cost = _drop(hits.plain, on_copies)
    return Evidence(
        operation=name,
        strength=strength,
        images=len(hits.plain),
        plain=float(hits.plain.mean()),
        copies=float(hits.copies.mean()),
        learnt=float(hits.learnt.mean()),
        cost=round(cost.value, 3),
        low=round(cost.low, 3),
        high=round(cost.high, 3),
        expected=round(joined(cost, prior).value, 3),
        kept=False,
        reason="",
    )


def _drop(before: Hits, after: Hits) -> Interval:
    """Points of accuracy lost between two classifications of the same images."""
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    drop = paired_interval(lost, gained, len(before), CONFIDENCE)
    return Interval(100 * drop.value, 100 * drop.low, 100 * drop.high)
