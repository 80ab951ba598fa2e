"""The distill stage: trains a student on the outputs of teachers for the same augmented views."""

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
from acclimate.models.model_names import PACKAGED
from acclimate.models.onnx.export import agreement
from acclimate.models.onnx.trainable_int8 import IntegerGraph
from acclimate.models.pretrained import pretrained, resized
from acclimate.models.settings import Model
from acclimate.models.used_images import united
from acclimate.registry.resolve import as_classifier, is_pretrained_name
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.session import Fit, Session

_AGREEMENT_IMAGES = 256
"""Number of val images on which a quantized student is compared with its ONNX graph."""
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
    """Trains a student on the outputs of teachers and on the true labels.

    Teachers and student see the same augmented view (Beyer et al. 2022, arXiv 2106.05237). A
    student of the teacher's architecture starts from the teacher's weights. Any other student
    starts from its pretrained weights with a fitted head. If the views are the same in every epoch
    (policy "none"), the teachers are run once per image.

    Args:
        teacher: One or several. A classifier must have the classes of the data. A function takes
            RGB images, float32 in [0, 1], (b, 3, S, S) at the student's size, and returns logits
            (b, C) in the class order of the first classifier, or of the data if all are functions.
        dataset: Cleaned and split.
        policy: Augmentation; the default policy if None.
        settings: Student, method and length of the training.
        context: Seed, device, workspace, progress.
        start: The student itself, in place of the one that the settings name.

    Returns:
        The student.

    Raises:
        DataError: A teacher lacks classes of the data.
        ModelFileError: The student or a teacher is not found, or the student cannot be trained.
    """
    began = time.monotonic()
    check_trainable(dataset)
    teachers = list(teacher) if isinstance(teacher, Sequence) else [teacher]
    more = (as_classifier(text, registry=context.registry) for text in settings.teachers)
    teachers = [*teachers, *more]
    if not teachers:
        raise ModelFileError("distillation needs at least one teacher.")
    first = next((one for one in teachers if isinstance(one, Classifier)), None)
    if first is not None:
        dataset = dataset.with_classes(first.classes, first.name)
    initial = _prepared(start, dataset, context) if start else None
    initial = initial or student(first, dataset, settings.student, context)
    # The student learns from its teachers what they learnt from their images.
    taught = (one.used_images for one in teachers if isinstance(one, Classifier))
    initial = replace(initial, used_images=united(initial.used_images, *taught))
    images = TrainingImages(
        dataset, policy or choose_policy(), initial.contract, unlabelled=settings.unlabelled
    )
    _check_unlabelled(images)
    session = Session("distill", settings, len(images.rows), context, began=began)
    for one in teachers:
        context.progress.info(
            f"distill: teacher {_description(one)}, student {_description(initial)}"
        )
    fit = _train(initial, teachers, images, settings, session, context)
    notes = tuple(f"Teacher: {teacher_name(one)}." for one in teachers)
    step = replace(fit.step, notes=(*notes, *fit.step.notes))
    if isinstance(fit.network, IntegerGraph):
        return _quantized_result(initial, fit.network, step, images, context)
    made = initial.after(step, network=fit.network, trained_on=dataset, splits=images.splits)
    return with_statistics(made, dataset, context) if settings.class_statistics else made


def _quantized_result(
    initial: Classifier,
    network: IntegerGraph,
    step: StepRecord,
    images: TrainingImages,
    context: Context,
) -> Classifier:
    """The student as an int8 ONNX graph; its card says how the graph agrees with the network."""
    both = replace(initial, network=network, graph=network.graph())
    found = agreement(both, images.dataset, _AGREEMENT_IMAGES)
    note = (
        f"The int8 graph and the trained network predict the same class for "
        f"{found['same_predictions']:.1%} of {found['images']:.0f} images."
    )
    context.progress.info(f"distill: {note}")
    step = replace(step, notes=(*step.notes, note))
    return initial.after(
        step, network=None, graph=both.graph, trained_on=images.dataset, splits=images.splits
    )


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
            "a quantized student has no features for the method hints.",
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
    """The untrained student.

    Args:
        teacher: Gives the classes, the input size and, for the same architecture, the weights;
            None if all teachers are functions.
        dataset: Used to fit the head.
        name: Name of a model, a model folder, or "auto".
        context: The run.

    Returns:
        A classifier with the teacher's classes.

    Raises:
        ModelFileError: The model or its weights are not found, or it cannot be trained.
    """
    if not is_pretrained_name(name):
        return _prepared(as_classifier(name, registry=context.registry), dataset, context)
    found = _named_student(name)
    if teacher is not None:
        if teacher.network and _same_network(found, teacher, name):
            return replace(teacher, graph=None)
        found = resized(found, teacher.contract.image_size)
    return probe(found, dataset, context=context)


def is_own_student(teacher: Classifier, settings: Distill) -> bool:
    """Whether the only teacher and its student are the same network at the same input size.

    Args:
        teacher: The model to distil from.
        settings: Settings of distillation.

    Returns:
        False if there are more teachers, or if the student is a model that was trained before.
    """
    if settings.teachers or not is_pretrained_name(settings.student):
        return False
    return _same_network(_named_student(settings.student), teacher, settings.student)


def _named_student(name: str) -> Classifier:
    return pretrained(Model(name=next(iter(PACKAGED)) if name == "auto" else name))


def _same_network(found: Classifier, teacher: Classifier, name: str) -> bool:
    larger = name == "auto" and found.parameters >= teacher.parameters
    return larger or found.architecture == teacher.architecture


def _prepared(start: Classifier, dataset: Dataset, context: Context) -> Classifier:
    """A given student: unchanged if it has the classes, otherwise with a fitted head.

    A quantized student is trained with its weights and activations rounded to 8 bits.
    """
    if start.precision != "float32" and start.graph is not None:
        if start.classes != dataset.classes:
            raise ModelFileError(
                "the student is quantized and has other classes, and its head cannot be replaced.",
                where=start.name,
                hint="Quantize a model that has the teacher's classes, in the same order.",
            )
        return replace(start, network=IntegerGraph(start.graph))
    if start.network is None:
        raise _not_trainable(start.name)
    if start.classes == dataset.classes:
        return replace(start, graph=None)
    return probe(start, dataset, context=context)


def _not_trainable(name: str) -> ModelFileError:
    return ModelFileError(
        "the student is a float32 ONNX graph without a PyTorch network and cannot be trained.",
        where=name,
        hint="Give a model folder with weights, or a quantized model.",
    )


def _check_unlabelled(images: TrainingImages) -> None:
    if images.unlabelled and not len(images.dataset.rows("unlabelled")):
        raise DataError(
            "the data has no unlabelled images.",
            where=images.dataset.shown_root,
            hint="Put them in a folder named `unlabelled`, or remove distill.unlabelled.",
        )


def _description(one: AnyTeacher) -> str:
    if isinstance(one, Classifier):
        kind = "" if one.precision == "float32" else f"{one.precision}, "
        return f"{one.name} ({kind}{one.parameters:,} parameters)" if one.network else one.name
    return teacher_name(one)
