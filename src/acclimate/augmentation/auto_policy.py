"""The stage: which augmentations keep this data's labels true, asked of the data itself.

A probe (a linear head on the frozen backbone's features) is asked about augmented copies of
images it did not learn from; nothing is trained but heads, in closed form. What an operation
costs is the drop in accuracy on the very same images, with its paired score interval; what costs
more than the tolerance is tried at less strength, then left out. Two things are not what they seem:

- A frozen backbone may be at a loss before a copy whose label is true all the same: a blurred one,
  an inverted one. So the copies are shown to a probe that learnt from copies of other images as
  well. Where it still reads them, the label is there, and learning to see it is what they are for.
- A backbone pretrained with mirror images takes a mirrored 2 for a 2. So a flip is also refused
  where flipped images can be told from straight ones of their class (`symmetry`): their like does
  not occur. Natural photos cannot be told, digits can.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from acclimate.augmentation.evidence import Evidence
from acclimate.augmentation.flip_symmetry import told_apart
from acclimate.augmentation.label_probe import FLIPS, Answers, Judge
from acclimate.augmentation.operations import OPERATIONS
from acclimate.augmentation.policy import POLICIES, Policy, by_hand, choose_policy
from acclimate.augmentation.settings import PHOTO_OPERATIONS, Augment
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.errors import ModelFileError, count
from acclimate.evaluation.comparison import paired_interval
from acclimate.features.probe import check_trainable
from acclimate.models.classifier import Classifier
from acclimate.models.pretrained import resized

_DEFAULT = Augment()
_HERE = Context()
_CONFIDENCE = 0.9
"""Of a cost's interval: each end is a one-sided 95 % bound."""
_FEWEST = 40
"""Images below which nothing is judged: one of them is 2.5 points."""
_SIDE = 128
"""px. Larger inputs are judged at this size, five times faster than at 224."""
_MOST_TOLD = 0.8
"""Share of flipped images told from straight ones, above which a flip is refused. Measured on 250
images: digits 0.87 (on photo patches), 0.95 (scanned), arrows 0.8; photos 0.5 to 0.56; waste lit
from one side 0.74. The interval's upper end must be below."""
_STRENGTHS = (1.0, 0.5, 0.25)
_CROPS = (0.5, 0.3, 0.15)
_LEAST_WEIGHT = 0.25
"""Of an operation that changes nothing for the probe: what costs nothing teaches nothing."""
_PER_IMAGE = 2


def safe_policy(
    classifier: Classifier,
    dataset: Dataset,
    settings: Augment = _DEFAULT,
    *,
    context: Context = _HERE,
) -> Policy:
    """The policy that keeps labels true, with the evidence for each operation kept or refused.

    What is set by hand is taken as it is, and what is of another policy than "auto" too. Judged
    are val images, and training images where those are fewer than `max_images`, each by probes
    that learnt from the others. With fewer than 40 images nothing can be told, and the policy is
    the gentle one of `choose_policy`.

    Args:
        classifier: Whose backbone judges.
        dataset: Cleaned and split; test images are not looked at.
        settings: What is left at auto is found out.
        context: The run.

    Returns:
        The policy.

    Raises:
        DataError: The data cannot be learnt from.
    """
    names = _unknown(settings)
    if settings.policy != "auto" or not names:
        return choose_policy(settings)
    check_trainable(dataset)
    judge = Judge(_smaller(classifier), dataset, settings.max_images, context)
    try:
        if len(judge.labels) < _FEWEST:
            few = count(len(judge.labels), "image is", "images are")
            context.progress.info(f"augment: {few} too few to tell; the gentle policy")
            return choose_policy(settings)
        evidence = _all_evidence(judge, names, settings.tolerance, context)
    finally:
        judge.close()
    for line in _told(evidence):
        context.progress.info(f"augment: {line}")
    policy = replace(by_hand(_assembled(evidence), settings), evidence=tuple(evidence))
    refused = {line.operation for line in evidence if not line.kept}
    policy = replace(policy, operations=tuple(n for n in policy.operations if n not in refused))
    if policy.consistency and not policy.alters:
        context.progress.info("augment: nothing is left that alters a view, so none are compared")
    return policy


def _smaller(classifier: Classifier) -> Classifier:
    """The classifier at the size that judges, unless it only takes its own."""
    try:
        return resized(classifier, min(classifier.contract.image_size, _SIDE))
    except ModelFileError:
        return classifier


def _unknown(settings: Augment) -> list[str]:
    """What is left to be found out, in the order of asking."""
    names = [name for name in FLIPS if getattr(settings, name) == "auto"]
    names += ["crop"] if settings.crop_area == "auto" else []
    names += ["jitter"] if settings.color == "auto" else []
    if settings.operations_per_image == 0:
        return names
    if settings.operations == "auto":
        return [*names, *(name for name in OPERATIONS if name != "identity")]
    if settings.strength == "auto":
        names += [name for name in settings.operations if name != "identity"]
    return list(dict.fromkeys(names))


def _all_evidence(
    judge: Judge, names: Sequence[str], tolerance: float, context: Context
) -> list[Evidence]:
    found: list[Evidence] = []
    with context.progress.task("augment", len(names), unit="operations") as task:
        for name in names:
            if name in FLIPS:
                told = told_apart(
                    judge.straight,
                    judge.labels,
                    FLIPS[name],
                    np.random.default_rng(context.seed_for("augment", "folds", name)),
                )
                found.append(flip_evidence(name, judge.ask(name, 1.0), told, tolerance))
            else:
                found.append(_strongest(judge, name, tolerance))
            task.advance(1)
    return found


def _strongest(judge: Judge, name: str, tolerance: float) -> Evidence:
    """The greatest strength that keeps labels true; the least one tried where none does."""
    strengths = _CROPS if name == "crop" else _STRENGTHS
    for strength in strengths:
        last = strength == strengths[-1]
        line = evidence_of(name, strength, judge.ask(name, strength), tolerance, last=last)
        if line.kept:
            break
    return line


def evidence_of(
    name: str, strength: float, answers: Answers, tolerance: float, *, last: bool = True
) -> Evidence:
    """Whether an operation keeps labels true at a strength.

    It does where its cost is within what is allowed (the tolerance, or a fifth of the probe's
    errors where that is more: a weak probe loses more on whatever it has not seen) and, by its
    interval, below twice that. Where so few images cannot say, what is common and gentle is kept
    at the least strength.

    Args:
        name: Of the operation.
        strength: In [0, 1].
        answers: Of the probes.
        tolerance: Points of accuracy.
        last: Whether no lesser strength will be tried.

    Returns:
        The evidence.
    """
    line = _measured(name, strength, answers, answers.learnt)
    allowed = max(tolerance, 100 * (1 - line.plain) / 5)
    if line.cost <= allowed and line.high <= 2 * allowed:
        return line.model_copy(update={"kept": True, "reason": "the labels can be read"})
    if line.cost > allowed and line.low > 0:
        return line.model_copy(update={"reason": f"costs more than {allowed:.2g} points"})
    gentle = last and (name in PHOTO_OPERATIONS or name in ("crop", "jitter"))
    reason = "not settled by so few images"
    return line.model_copy(
        update={"kept": gentle, "reason": f"{reason}, and gentle" if gentle else reason}
    )


def flip_evidence(
    name: str, answers: Answers, told: NDArray[np.bool_], tolerance: float
) -> Evidence:
    """Whether a flip keeps labels true; where images cannot say, it is taken not to.

    Args:
        name: Of the flip.
        answers: Of the probes.
        told: For each image, whether it can be told from its copy.
        tolerance: Points of accuracy.

    Returns:
        The evidence.
    """
    line = _measured(name, 1.0, answers, answers.copies)
    share = float(told.mean())
    # Where nothing can be told the share is a coin's: its spread is that of a half, at most.
    spread = 1.645 * np.sqrt(max(share * (1 - share), 0.25 / 4) / len(told))
    line = line.model_copy(update={"told": share})
    seen = f"{100 * share:.0f} % of images can be told from their copies"
    if share + spread >= _MOST_TOLD:
        return line.model_copy(update={"reason": seen})
    if line.cost <= tolerance and line.high <= 2 * tolerance:
        return line.model_copy(update={"kept": True, "reason": seen})
    settled = line.cost > tolerance and line.low > 0
    told_why = (
        f"costs more than {tolerance:g} points" if settled else "not settled by so few images"
    )
    return line.model_copy(update={"reason": told_why})


def _measured(name: str, strength: float, answers: Answers, judged: NDArray[np.bool_]) -> Evidence:
    """The figures; kept and its reason come after."""
    images = len(answers.plain)
    lost = int((answers.plain & ~judged).sum())
    gained = int((judged & ~answers.plain).sum())
    drop = paired_interval(lost, gained, images, _CONFIDENCE)
    return Evidence(
        operation=name,
        strength=strength,
        images=images,
        plain=float(answers.plain.mean()),
        copies=float(answers.copies.mean()),
        learnt=float(answers.learnt.mean()),
        cost=round(100 * drop.value, 3),
        low=round(100 * drop.low, 3),
        high=round(100 * drop.high, 3),
        kept=False,
        reason="",
    )


def _assembled(evidence: Sequence[Evidence]) -> Policy:
    """What was kept, each at its strength; what was not asked stays gentle."""
    kept = {line.operation: line for line in evidence if line.kept}
    asked = {line.operation for line in evidence}
    gentle = POLICIES["auto"]
    operations = tuple(name for name in OPERATIONS if name in kept)
    crop, jitter = kept.get("crop"), kept.get("jitter")
    return replace(
        gentle,
        crop_area=1 - crop.strength if crop else 1.0,
        horizontal_flip="horizontal_flip" in kept,
        vertical_flip="vertical_flip" in kept,
        color=min(gentle.color, jitter.strength) if jitter else 0.0,
        operations=operations if asked & set(OPERATIONS) else gentle.operations,
        operations_per_image=_PER_IMAGE,
        strength=1.0,
        vary=True,
        strengths={name: kept[name].strength for name in operations},
        weights={name: _weight(kept[name]) for name in operations},
    )


def _weight(line: Evidence) -> float:
    """How often it is drawn: by how much it surprises a probe that never saw a copy."""
    surprise = (line.plain - line.copies) / max(line.plain, 1e-9)
    return round(min(1.0, max(_LEAST_WEIGHT, 20 * surprise)), 3)


def _told(evidence: Sequence[Evidence]) -> list[str]:
    """What is said to the user: what was kept, then what was left out and why."""
    kept = [f"{e.operation} {e.strength:g}" for e in evidence if e.kept]
    lines = [f"kept {', '.join(kept)}"] if kept else []
    return lines + [f"left out {e.operation}: {e.reason}" for e in evidence if not e.kept]
