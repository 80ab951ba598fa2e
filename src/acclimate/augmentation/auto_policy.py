"""The augment stage: tests on the data which augmentations keep its labels valid.

A linear probe on the frozen backbone's features classifies augmented copies of images that it was
not fitted on. Only probes are fitted, in closed form. The cost of an operation is the drop in
accuracy on the same images, joined with what it costs on other data (`prior`), since a few dozen
images do not settle it. An operation that costs more than the tolerance is tried at lower
strengths, and refused if none is cheap enough. Three cases need more:

- A frozen backbone may fail on a copy although its label is still valid, such as a blurred or an
  inverted image. So the copies are also classified by a probe that was fitted on copies of other
  images as well. If that one reads them, the label is intact, and the operation is kept.
- A backbone pretrained with flips takes a mirrored 2 for a 2. So it is also tested whether flipped
  images can be distinguished from original ones of their class (`flip_symmetry`). For natural
  photos they cannot, for digits they can. What the images and the names of the classes show
  (`data_kind`) decides which of the two has to be proven.
- On images with color, inverting must help, and not only leave the label readable (`decision`).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from acclimate.augmentation.data_kind import DataKind, kind_of
from acclimate.augmentation.decision import flip_evidence, operation_evidence
from acclimate.augmentation.evidence import Evidence
from acclimate.augmentation.flip_symmetry import flips_detected
from acclimate.augmentation.label_probe import FLIPS, LabelProbe
from acclimate.augmentation.operations import OPERATIONS
from acclimate.augmentation.policy import POLICIES, Policy, choose_policy, with_overrides
from acclimate.augmentation.settings import Augment
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.errors import ModelFileError, count
from acclimate.features.probe import check_trainable
from acclimate.models.classifier import Classifier
from acclimate.models.pretrained import resized

_DEFAULT = Augment()
_HERE = Context()
_MIN_IMAGES = 40
"""With fewer images nothing is tested: one of 40 is already 2.5 points."""
_MAX_SIDE = 128
"""px. Larger inputs are tested at this size, five times faster than at 224."""
_STRENGTHS = (1.0, 0.5, 0.25)
_CROPS = (0.5, 0.3, 0.15)
_MIN_WEIGHT = 0.25
"""Of an operation that costs the first probe nothing: the network learns little from it."""
_PER_IMAGE = 2


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
    classified by probes that were fitted on the others. With fewer than 40 images there is no test:
    the policy is the gentle one of `choose_policy`, and mirrors photographs.

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
        kind = kind_of(probe.plain_images, dataset.classes)
        if len(probe.labels) < _MIN_IMAGES:
            return _untested(len(probe.labels), kind, settings, context)
        evidence = _all_evidence(probe, names, kind, settings.tolerance, context)
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


def _untested(images: int, kind: DataKind, settings: Augment, context: Context) -> Policy:
    """The gentle policy, which mirrors if that is usual for the kind of data."""
    few = count(images, "image is", "images are")
    context.progress.info(f"augment: {few} too few to test augmentations; gentle policy")
    policy = choose_policy(settings)
    if settings.horizontal_flip != "auto":
        return policy
    return replace(policy, horizontal_flip=kind.mirrors)


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
    probe: LabelProbe,
    names: Sequence[str],
    kind: DataKind,
    tolerance: float,
    context: Context,
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
                hits = probe.measure(name, 1.0)
                found.append(flip_evidence(name, hits, detected, tolerance, kind))
            else:
                found.append(_strongest(probe, name, kind, tolerance))
            task.advance(1)
    return found


def _strongest(probe: LabelProbe, name: str, kind: DataKind, tolerance: float) -> Evidence:
    """The highest strength that keeps labels valid, or else the lowest one tried."""
    for strength in _strengths(name, kind):
        hits = probe.measure(name, strength)
        line = operation_evidence(name, strength, hits, tolerance, kind)
        if line.kept:
            break
    return line


def _strengths(name: str, kind: DataKind) -> tuple[float, ...]:
    if name == "crop":
        return _CROPS
    # A lower strength of invert inverts fewer images, each of them as much: it cannot help more.
    return _STRENGTHS[:1] if name == "invert" and kind.color else _STRENGTHS


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
