"""The stage: a student learns from teachers, on the very images that they see."""

import copy
import time
from collections.abc import Sequence
from dataclasses import replace

from acclimate.augmentation.policy import Policy, choose_policy
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.distillation.hints import HintProjection, without_projection
from acclimate.distillation.methods import DISTILLATIONS
from acclimate.distillation.objective import distillation_objective
from acclimate.distillation.settings import Distill
from acclimate.distillation.teachers import AnyTeacher, CachedTeachers, Teachers, teacher_name
from acclimate.errors import DataError, ModelFileError
from acclimate.features.discriminant import with_statistics
from acclimate.features.probe import check_trainable, probe
from acclimate.models.classifier import Classifier, StepRecord
from acclimate.models.onnx.export import agreement
from acclimate.models.onnx.trainable_int8 import IntegerGraph
from acclimate.models.pretrained import PACKAGED, pretrained, resized
from acclimate.models.settings import Model
from acclimate.registry.resolve import as_classifier, is_pretrained_name
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.session import Fit, Session

_AGREEMENT_IMAGES = 256
"""Val images on which a quantized student is compared with its graph."""
_DEFAULT = Distill()
_HERE = Context()


def distill(
    teacher: AnyTeacher | Sequence[AnyTeacher],
    dataset: Dataset,
    policy: Policy | None = None,
    settings: Distill = _DEFAULT,
    *,
    context: Context = _HERE,
    start: Classifier | None = None,
) -> Classifier:
    """Trains a student on what teachers say and on the true labels.

    Teachers and student see the same augmented view (Beyer et al. 2022, arXiv 2106.05237). Where
    the student is of the teacher's own architecture it starts from the teacher's weights;
    elsewhere from its pretrained ones with a fitted head. Where images are the same in every epoch
    (policy "none") each image is shown to the teachers once.

    Args:
        teacher: Knows the data's classes. One or several; a function takes RGB images, float32 in
            [0, 1], (b, 3, S, S) at the student's size, and returns logits (b, C) in the order of
            the first classifier's classes, or of the data's where there is none.
        dataset: Cleaned and split.
        policy: Augmentation; the default one when None.
        settings: Which student, which method, how long.
        context: Seed, device, workspace, progress.
        start: The student itself, in place of the one that the settings name.

    Returns:
        The student.

    Raises:
        DataError: A teacher does not know the data's classes.
        ModelFileError: There is no such student or teacher, or the student cannot be trained.
    """
    began = time.monotonic()
    check_trainable(dataset)
    teachers = list(teacher) if isinstance(teacher, Sequence) else [teacher]
    more = (as_classifier(text, registry=context.registry) for text in settings.teachers)
    teachers = [*teachers, *more]
    if not teachers:
        raise ModelFileError("there is no teacher to learn from.")
    first = next((one for one in teachers if isinstance(one, Classifier)), None)
    if first is not None:
        dataset = dataset.with_classes(first.classes, first.name)
    initial = _prepared(start, dataset, context) if start else None
    initial = initial or student(first, dataset, settings.student, context)
    images = TrainingImages(
        dataset, policy or choose_policy(), initial.contract, unlabelled=settings.unlabelled
    )
    _check_unlabelled(images)
    session = Session("distill", settings, len(images.rows), context, began=began)
    for one in teachers:
        context.progress.info(f"distill: {_description(one)} teaches {_description(initial)}")
    fit = _train(initial, teachers, images, settings, session, context)
    notes = tuple(f"Taught by {teacher_name(one)}." for one in teachers)
    step = replace(fit.step, notes=(*notes, *fit.step.notes))
    if isinstance(fit.network, IntegerGraph):
        return _quantized_result(initial, fit.network, step, dataset, context)
    made = initial.after(step, network=fit.network, dataset=dataset.digest)
    return with_statistics(made, dataset, context) if settings.class_statistics else made


def _quantized_result(
    initial: Classifier, network: IntegerGraph, step: StepRecord, dataset: Dataset, context: Context
) -> Classifier:
    """A quantized student as the ONNX graph that it is, and how that agrees with what learnt."""
    both = replace(initial, network=network, graph=network.graph())
    found = agreement(both, dataset, _AGREEMENT_IMAGES)
    note = (
        f"The int8 graph agrees with the network that learnt on {found['same_predictions']:.1%} of "
        f"{found['images']:.0f} images."
    )
    context.progress.info(f"distill: {note}")
    step = replace(step, notes=(*step.notes, note))
    return initial.after(step, network=None, graph=both.graph, dataset=dataset.digest)


def _train(
    initial: Classifier,
    teachers: Sequence[AnyTeacher],
    images: TrainingImages,
    settings: Distill,
    session: Session,
    context: Context,
) -> Fit:
    features = DISTILLATIONS[settings.method].features
    if features and initial.precision != "float32":
        raise ModelFileError(
            "a quantized student has no features that could follow hints.",
            where=initial.name,
            hint="Choose another method: --set distill.method=soft.",
        )
    frozen = Teachers(
        teachers, initial.classes, initial.contract, device=context.device, features=features
    )
    source = CachedTeachers(frozen, len(images.dataset)) if images.same_every_epoch else frozen
    network = copy.deepcopy(initial.module())
    hint = None
    if features:
        hint = HintProjection(network, frozen.feature_width, context.seed_for("hint"))
    objective = distillation_objective(source, settings, hint)
    fit = session.fit(
        network, images, objective,
        fingerprint={"teachers": [teacher_name(one) for one in teachers]},
        recorded={"policy": images.policy.as_record()},
    )  # fmt: skip
    if hint is None:
        return fit
    network = without_projection(fit.network, initial.module())
    return replace(fit, result=replace(fit.result, network=network))


def student(
    teacher: Classifier | None, dataset: Dataset, name: str, context: Context
) -> Classifier:
    """Where the student starts.

    Args:
        teacher: Whose classes, input size and perhaps weights it takes; None where functions
            alone teach.
        dataset: For the fitted head.
        name: Of a model, a model folder, or "auto".
        context: The run.

    Returns:
        A classifier of the teacher's classes.

    Raises:
        ModelFileError: There is no such model, its weights cannot be had, or it cannot be trained.
    """
    if not is_pretrained_name(name):
        return _prepared(as_classifier(name, registry=context.registry), dataset, context)
    automatic = name == "auto"
    found = pretrained(Model(name=next(iter(PACKAGED)) if automatic else name))
    if teacher is not None:
        found = resized(found, teacher.contract.image_size)
        larger = automatic and found.parameters >= teacher.parameters
        if teacher.network and (larger or found.architecture == teacher.architecture):
            return replace(teacher, graph=None)
    return probe(found, dataset, context=context)


def _prepared(start: Classifier, dataset: Dataset, context: Context) -> Classifier:
    """A student that is at hand: as it is where it knows the classes, else with a fitted head.

    A quantized one learns within its 8-bit numbers.
    """
    if start.precision != "float32" and start.graph is not None:
        if start.classes != dataset.classes:
            raise ModelFileError(
                "student is quantized and of other classes, and its head cannot be fitted anew.",
                where=start.name,
                hint="Quantize a model of these classes, in the order that the teacher has.",
            )
        return replace(start, network=IntegerGraph(start.graph))
    if start.network is None:
        raise _not_trainable(start.name)
    if start.classes == dataset.classes:
        return replace(start, graph=None)
    return probe(start, dataset, context=context)


def _not_trainable(name: str) -> ModelFileError:
    return ModelFileError(
        "student is a float ONNX graph without its PyTorch network, which cannot be trained.",
        where=name,
        hint="Give a model folder with its weights, or a quantized model.",
    )


def _check_unlabelled(images: TrainingImages) -> None:
    if images.unlabelled and not len(images.dataset.rows("unlabelled")):
        raise DataError(
            "data has no images without a label to learn from.",
            where=images.dataset.root,
            hint="Put them into a folder `unlabelled`, or leave out distill.unlabelled.",
        )


def _description(one: AnyTeacher) -> str:
    if isinstance(one, Classifier):
        kind = "" if one.precision == "float32" else f"{one.precision}, "
        return f"{one.name} ({kind}{one.parameters:,} parameters)" if one.network else one.name
    return teacher_name(one)
