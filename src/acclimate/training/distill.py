"""The stage: a student learns from a teacher, on the very views that the teacher sees."""

import copy
from dataclasses import replace

import torch
from torch.nn import functional

from acclimate.augmentation.policy import Policy, choose_policy
from acclimate.context import Context
from acclimate.data.contract import InputContract
from acclimate.data.dataset import Dataset
from acclimate.features.probe import check_trainable, probe
from acclimate.models.classifier import Classifier, plain
from acclimate.models.device import choose_device, on_device
from acclimate.models.pretrained import PACKAGED, pretrained, resized
from acclimate.models.settings import Model
from acclimate.training.fine_tune import record, tell_plan
from acclimate.training.loop import train
from acclimate.training.losses import cross_entropy, soft_targets
from acclimate.training.plan import make_plan
from acclimate.training.settings import Distill
from acclimate.training.step import Objective, Seen
from acclimate.training.views import Views

_DEFAULT = Distill()
_HERE = Context()


def distill(
    teacher: Classifier,
    dataset: Dataset,
    policy: Policy | None = None,
    settings: Distill = _DEFAULT,
    *,
    context: Context = _HERE,
) -> Classifier:
    """Trains a student on the teacher's softened probabilities and the true labels.

    Teacher and student see the same augmented view (Beyer et al. 2022, arXiv 2106.05237). Where
    the student is of the teacher's own architecture it starts from the teacher's weights;
    elsewhere from its pretrained ones with a fitted head.

    Args:
        teacher: Knows the data's classes.
        dataset: Cleaned and split.
        policy: Augmentation; the default one when None.
        settings: Which student, how soft, how long.
        context: Seed, device, workspace, progress.

    Returns:
        The student.

    Raises:
        DataError: The teacher does not know the data's classes.
        ModelFileError: There is no such student.
    """
    check_trainable(dataset)
    teacher.module()
    dataset = dataset.with_classes(teacher.classes, teacher.name)
    plan = make_plan(settings, len(dataset.rows("train")), context)
    tell_plan(plan, context)
    start = student(teacher, dataset, settings.student, context)
    context.progress.say(
        f"distill: {teacher.name} ({teacher.parameters:,} parameters) teaches "
        f"{start.name} ({start.parameters:,})"
    )
    views = Views(dataset, policy or choose_policy(), start.contract)
    objective = teaching(
        teacher,
        start.contract,
        device=context.device,
        temperature=settings.temperature,
        hard_labels=settings.hard_labels,
    )
    trained = train(copy.deepcopy(start.module()), views, objective, plan, context=context)
    used = {**plain(settings), "policy": views.policy.as_record()}
    step = record("distill", used, trained, plan)
    step = replace(step, notes=(f"Taught by {teacher.name}, {teacher.digest}.", *step.notes))
    return start.after(step, network=trained.network, dataset=dataset.digest)


def student(teacher: Classifier, dataset: Dataset, name: str, context: Context) -> Classifier:
    """Where the student starts.

    Args:
        teacher: Whose classes, input size and perhaps weights it takes.
        dataset: For the fitted head.
        name: Of a model, or "auto".
        context: The run.

    Returns:
        A classifier of the teacher's classes.

    Raises:
        ModelFileError: There is no such model, or its weights cannot be had.
    """
    chosen_here = name == "auto"
    if chosen_here:
        name = next(iter(PACKAGED))
    found = resized(pretrained(Model(name=name)), teacher.contract.image_size)
    larger = chosen_here and found.parameters >= teacher.parameters
    if larger or found.architecture == teacher.architecture:
        return replace(teacher, graph=None)
    return probe(found, dataset, context=context)


def teaching(
    teacher: Classifier,
    contract: InputContract,
    *,
    device: str,
    temperature: float,
    hard_labels: float,
) -> Objective:
    """The objective of a student: the teacher's soft targets and the true labels.

    Args:
        teacher: Frozen; a copy is moved to the device.
        contract: The student's: its inputs are renormalized and resized for the teacher.
        device: "auto", "cpu", …
        temperature: Above 0.
        hard_labels: Weight of the true labels, in [0, 1].

    Returns:
        (logits, what was seen) to one loss an image.
    """
    chosen = choose_device(device)
    network = on_device(copy.deepcopy(teacher.module()), chosen).eval().requires_grad_(False)
    size = teacher.contract.image_size
    own, theirs = (
        [torch.tensor(v, device=chosen).view(1, 3, 1, 1) for v in (c.mean, c.std)]
        for c in (contract, teacher.contract)
    )

    def seen_by_teacher(inputs: torch.Tensor) -> torch.Tensor:
        if contract.image_size != size:
            inputs = functional.interpolate(inputs, (size, size), mode="bicubic", antialias=True)
        if (contract.mean, contract.std) == (teacher.contract.mean, teacher.contract.std):
            return inputs
        return (inputs * own[1] + own[0] - theirs[0]) / theirs[1]

    def objective(logits: torch.Tensor, seen: Seen) -> torch.Tensor:
        with torch.no_grad():
            wanted = network(seen_by_teacher(seen.inputs))
        soft = soft_targets(logits, wanted, temperature)
        return (1 - hard_labels) * soft + hard_labels * cross_entropy(logits, seen.targets, 0.0)

    return objective
