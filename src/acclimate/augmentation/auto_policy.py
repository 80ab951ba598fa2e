"""The augment stage: tests on the data which augmentations keep its labels valid.

A linear probe on the frozen backbone's features classifies augmented copies of images that it was
not fitted on. Only probes are fitted, in closed form. The cost of an operation is the drop in
accuracy on the same images, with its paired score interval. An operation that costs more than the
tolerance is tried at lower strengths, and refused if none is cheap enough. Two cases need more:

- A frozen backbone may fail on a copy although its label is still valid, such as a blurred or an
  inverted image. So the copies are also classified by a probe that was fitted on copies of other
  images as well. If that one reads them, the label is intact, and the operation is kept.
- A backbone pretrained with flips takes a mirrored 2 for a 2. So a flip is also refused if flipped
  images can be distinguished from original ones of their class (`flip_symmetry`), since such images
  do not occur. For natural photos they cannot, for digits they can.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from acclimate.augmentation.evidence import Evidence
from acclimate.augmentation.flip_symmetry import flips_detected
from acclimate.augmentation.label_probe import FLIPS, LabelProbe, ProbeHits
from acclimate.augmentation.operations import OPERATIONS
from acclimate.augmentation.policy import POLICIES, Policy, choose_policy, with_overrides
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
_MIN_IMAGES = 40
"""With fewer images nothing is tested: one of 40 is already 2.5 points."""
_MAX_SIDE = 128
"""px. Larger inputs are tested at this size, five times faster than at 224."""
_MAX_DETECTED = 0.8
"""Share of flipped images distinguished from original ones, from which a flip is refused. Measured
on 250 images: digits 0.87 (on photo patches), 0.95 (scanned), arrows 0.8; photos 0.5 to 0.56; waste
lit from one side 0.74. The interval's upper end must be below."""
_STRENGTHS = (1.0, 0.5, 0.25)
_CROPS = (0.5, 0.3, 0.15)
_MIN_WEIGHT = 0.25
"""Of an operation that costs the first probe nothing: the network learns little from it."""
_PER_IMAGE = 2
_TOO_FEW = "too few images to know whether labels survive it"


def auto_policy(
    classifier: Classifier,
    dataset: Dataset,
    settings: Augment = _DEFAULT,
    *,
    context: Context = _HERE,
) -> Policy:
    """The policy that keeps labels valid, with the evidence for each operation tested.

    Explicit settings are taken as they are, and so are named policies other than "auto". The test
    images are val images, and training images if val has fewer than `max_images`; each is
    classified by probes that were fitted on the others. With fewer than 40 images there is no test,
    and the policy is the gentle one of `choose_policy`.

    Args:
        classifier: Its backbone gives the features.
        dataset: Cleaned and split; its test split is not read.
        settings: Settings left at auto are found by the test.
        context: The run.

    Returns:
        The policy.

    Raises:
        DataError: The data is not suitable for training.
    """
    names = _to_test(settings)
    if settings.policy != "auto" or not names:
        return choose_policy(settings)
    check_trainable(dataset)
    probe = LabelProbe(_smaller(classifier), dataset, settings.max_images, context)
    try:
        if len(probe.labels) < _MIN_IMAGES:
            few = count(len(probe.labels), "image is", "images are")
            context.progress.info(f"augment: {few} too few to test augmentations; gentle policy")
            return choose_policy(settings)
        evidence = _all_evidence(probe, names, settings.tolerance, context)
    finally:
        probe.close()
    for line in _summary(evidence):
        context.progress.info(f"augment: {line}")
    policy = replace(with_overrides(_assemble(evidence), settings), evidence=tuple(evidence))
    refused = {line.operation for line in evidence if not line.kept}
    policy = replace(policy, operations=tuple(n for n in policy.operations if n not in refused))
    if policy.consistency and not policy.alters:
        context.progress.info("augment: consistency has no effect: the policy alters no views")
    return policy


def _smaller(classifier: Classifier) -> Classifier:
    """The classifier at the size for the test, if it accepts other sizes than its own."""
    try:
        return resized(classifier, min(classifier.contract.image_size, _MAX_SIDE))
    except ModelFileError:
        return classifier


def _to_test(settings: Augment) -> list[str]:
    """What the settings leave open, in the order of testing."""
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
    probe: LabelProbe, names: Sequence[str], tolerance: float, context: Context
) -> list[Evidence]:
    found: list[Evidence] = []
    with context.progress.task("augment", len(names), unit="operations") as task:
        for name in names:
            if name in FLIPS:
                detected = flips_detected(
                    probe.plain_images,
                    probe.labels,
                    FLIPS[name],
                    np.random.default_rng(context.seed_for("augment", "folds", name)),
                )
                found.append(flip_evidence(name, probe.measure(name, 1.0), detected, tolerance))
            else:
                found.append(_strongest(probe, name, tolerance))
            task.advance(1)
    return found


def _strongest(probe: LabelProbe, name: str, tolerance: float) -> Evidence:
    """The highest strength that keeps labels valid, or else the lowest one tried."""
    strengths = _CROPS if name == "crop" else _STRENGTHS
    for strength in strengths:
        last = strength == strengths[-1]
        hits = probe.measure(name, strength)
        line = operation_evidence(name, strength, hits, tolerance, last=last)
        if line.kept:
            break
    return line


def operation_evidence(
    name: str, strength: float, hits: ProbeHits, tolerance: float, *, last: bool = True
) -> Evidence:
    """Whether an operation keeps labels valid at a strength.

    It does if its cost is within the allowance and, by its interval, below twice that. The
    allowance is the tolerance, or a fifth of the probe's errors if that is more: a weak probe loses
    more on any image unlike those it was fitted on. If there are too few images to decide, common
    and gentle operations are kept at the lowest strength.

    Args:
        name: Of the operation.
        strength: In [0, 1].
        hits: Of the probes.
        tolerance: Points of accuracy.
        last: Whether no lower strength will be tried.

    Returns:
        The evidence.
    """
    line = _measured(name, strength, hits, hits.learnt)
    allowed = max(tolerance, 100 * (1 - line.plain) / 5)
    if line.cost <= allowed and line.high <= 2 * allowed:
        return line.model_copy(update={"kept": True, "reason": "the labels stay readable"})
    if line.cost > allowed and line.low > 0:
        return line.model_copy(update={"reason": f"costs more than {allowed:.2g} points"})
    gentle = last and (name in PHOTO_OPERATIONS or name in ("crop", "jitter"))
    reason = f"{_TOO_FEW}, but it is gentle" if gentle else _TOO_FEW
    return line.model_copy(update={"kept": gentle, "reason": reason})


def flip_evidence(
    name: str, hits: ProbeHits, detected: NDArray[np.bool_], tolerance: float
) -> Evidence:
    """Whether a flip keeps labels valid; if there are too few images to decide, it is refused.

    Args:
        name: Of the flip.
        hits: Of the probes.
        detected: For each image, whether it was distinguished from its copy.
        tolerance: Points of accuracy.

    Returns:
        The evidence.
    """
    line = _measured(name, 1.0, hits, hits.copies)
    share = float(detected.mean())
    # By chance the share is one half, so its spread is at most that of a coin.
    spread = 1.645 * np.sqrt(max(share * (1 - share), 0.25 / 4) / len(detected))
    line = line.model_copy(update={"told": share})
    share_text = f"{100 * share:.0f} % of images can be distinguished from their flipped copies"
    if share + spread >= _MAX_DETECTED:
        return line.model_copy(update={"reason": share_text})
    if line.cost <= tolerance and line.high <= 2 * tolerance:
        return line.model_copy(update={"kept": True, "reason": share_text})
    costs = line.cost > tolerance and line.low > 0
    reason = f"costs more than {tolerance:g} points" if costs else _TOO_FEW
    return line.model_copy(update={"reason": reason})


def _measured(
    name: str, strength: float, hits: ProbeHits, on_copies: NDArray[np.bool_]
) -> Evidence:
    """The figures, without the decision."""
    images = len(hits.plain)
    lost = int((hits.plain & ~on_copies).sum())
    gained = int((on_copies & ~hits.plain).sum())
    drop = paired_interval(lost, gained, images, _CONFIDENCE)
    return Evidence(
        operation=name,
        strength=strength,
        images=images,
        plain=float(hits.plain.mean()),
        copies=float(hits.copies.mean()),
        learnt=float(hits.learnt.mean()),
        cost=round(100 * drop.value, 3),
        low=round(100 * drop.low, 3),
        high=round(100 * drop.high, 3),
        kept=False,
        reason="",
    )


def _assemble(evidence: Sequence[Evidence]) -> Policy:
    """The kept operations, each at its strength; the gentle policy gives what was not tested."""
    kept = {line.operation: line for line in evidence if line.kept}
    tested = {line.operation for line in evidence}
    gentle = POLICIES["auto"]
    operations = tuple(name for name in OPERATIONS if name in kept)
    crop, jitter = kept.get("crop"), kept.get("jitter")
    return replace(
        gentle,
        crop_area=1 - crop.strength if crop else 1.0,
        horizontal_flip="horizontal_flip" in kept,
        vertical_flip="vertical_flip" in kept,
        color=min(gentle.color, jitter.strength) if jitter else 0.0,
        operations=operations if tested & set(OPERATIONS) else gentle.operations,
        operations_per_image=_PER_IMAGE,
        strength=1.0,
        vary=True,
        strengths={name: kept[name].strength for name in operations},
        weights={name: _weight(kept[name]) for name in operations},
    )


def _weight(line: Evidence) -> float:
    """How often the operation is sampled: by what it costs a probe that never saw a copy."""
    drop = (line.plain - line.copies) / max(line.plain, 1e-9)
    return round(min(1.0, max(_MIN_WEIGHT, 20 * drop)), 3)


def _summary(evidence: Sequence[Evidence]) -> list[str]:
    """One line for all kept operations, and one with the reason for each refused one."""
    kept = [f"{e.operation} {e.strength:g}" for e in evidence if e.kept]
    lines = [f"using {', '.join(kept)}"] if kept else []
    return lines + [f"not using {e.operation}: {e.reason}" for e in evidence if not e.kept]
