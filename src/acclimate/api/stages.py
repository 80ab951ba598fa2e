"""The stages up to a finished model as Python functions, under the names of their commands.

A model is a name, a folder, a file or a `torch.nn.Module`; data is a folder, a list or a `Dataset`;
settings are keywords. `lr` is short for `learning_rate`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from acclimate.api.inputs import (
    AnyData,
    AnyTeachers,
    as_context,
    as_dataset,
    as_policy,
    as_teachers,
)
from acclimate.augmentation.policy import Policy
from acclimate.augmentation.policy import choose_policy as _choose_policy
from acclimate.augmentation.settings import Augment
from acclimate.cleaning.clean import clean as _clean
from acclimate.cleaning.settings import Clean
from acclimate.compression.compress import compress as _compress
from acclimate.compression.prune import prune as _prune
from acclimate.compression.quantize import quantize as _quantize
from acclimate.compression.settings import Compress, Prune, Quantize
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.data.images.contract import InputContract
from acclimate.data.settings import Source
from acclimate.data.sources.read import read
from acclimate.distillation.distill import distill as _distill
from acclimate.distillation.settings import Distill
from acclimate.errors import RecipeError
from acclimate.features.probe import probe as _probe
from acclimate.features.settings import Probe
from acclimate.inspection.inspect import inspect as _inspect
from acclimate.inspection.settings import Inspect
from acclimate.models.classifier import Classifier
from acclimate.progress import Progress, silent
from acclimate.registry.resolve import AnyModel, as_classifier, resized_classifier
from acclimate.settings import from_keywords


def clean(
    data: AnyData,
    *,
    seed: int = 0,
    progress: Progress = silent,
    leave_out_classes: Iterable[str] = (),
    group_from: str | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Clean
) -> Dataset:
    """Checks every image, and splits images without a split; see `acclimate.cleaning.clean.clean`.

    Args:
        data: Folder, CSV or Parquet.
        seed: Random seed of the split.
        progress: Receives messages and progress.
        leave_out_classes: Class folders to ignore.
        group_from: Regular expression for the group in each path; its first (…), or else the whole
            match.
        **settings: Fields of `Clean`.

    Returns:
        The data set.

    Example:
        >>> photos = acclimate.clean("photos/", test=0.2)
        >>> photos.classes
        ('one', 'seven')
    """
    given = {"leave_out_classes": tuple(leave_out_classes), "group_from": group_from}
    source = from_keywords(Source, given)
    raw = data if isinstance(data, Dataset) else read(Path(data), source)
    return _clean(
        raw, from_keywords(Clean, settings), context=Context(seed=seed, progress=progress)
    )


def inspect(
    model: AnyModel,
    data: AnyData,
    *,
    contract: InputContract | None = None,
    image_size: int | None = None,
    context: Context | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Inspect
) -> Dataset:
    """Flags probable label errors and outliers; see `acclimate.inspection.inspect.inspect`.

    Args:
        model: Name, folder, classifier or module, whose features are used.
        data: Folder, list or data set.
        contract: Input size and normalization of a module.
        image_size: Input size in px; None is the model's own.
        context: Seed, device, progress.
        progress: Receives messages and progress, in place of the context's.
        **settings: Fields of `Inspect`.

    Returns:
        The data set with scores and flags.

    Example:
        >>> photos = acclimate.inspect("leaf.model", "photos/")
        >>> photos.table["label_error"].null_count < len(photos)
        True
    """
    here = as_context(context, progress=progress)
    start = resized_classifier(model, contract, image_size, registry=here.registry)
    return _inspect(
        start, as_dataset(data, context=here), from_keywords(Inspect, settings), context=here
    )


def augment(
    model: AnyModel | None = None,
    data: AnyData | None = None,
    *,
    contract: InputContract | None = None,
    image_size: int | None = None,
    context: Context | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Augment
) -> Policy:
    """Tests which augmentations keep the labels of your images true.

    Args:
        model: Name, folder, classifier or module, whose features are used.
        data: Folder, list or data set. Without model and data nothing is tested: settings left at
            auto then give a gentle policy without flips.
        contract: Input size and normalization of a module.
        image_size: Input size in px; None is the model's own.
        context: Seed, device, progress.
        progress: Receives messages and progress, in place of the context's.
        **settings: Fields of `Augment`.

    Returns:
        The policy, with the evidence for each augmentation.

    Raises:
        RecipeError: Only one of model and data is given.

    Example:
        >>> policy = acclimate.augment("leaf.model", "photos/", operations_per_image=0)
        >>> [line.operation for line in policy.evidence]
        ['horizontal_flip', 'vertical_flip', 'crop', 'jitter']
    """
    made = from_keywords(Augment, settings)
    if model is None and data is None:
        return _choose_policy(made)
    if model is None or data is None:
        raise RecipeError("a model and data are needed, or neither.", where="augment")
    here = as_context(context, progress=progress)
    start = resized_classifier(model, contract, image_size, registry=here.registry)
    return as_policy(None, start, as_dataset(data, context=here), settings=made, context=here)


def probe(
    model: AnyModel,
    data: AnyData,
    *,
    contract: InputContract | None = None,
    image_size: int | None = None,
    context: Context | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Probe
) -> Classifier:
    """Fits a linear head on frozen features; see `acclimate.features.probe.probe`.

    Args:
        model: Name, folder, classifier or module.
        data: Folder, list or data set.
        contract: Input size and normalization of a module.
        image_size: Input size in px; None is the model's own.
        context: Seed, device, progress.
        progress: Receives messages and progress, in place of the context's.
        **settings: Fields of `Probe`.

    Returns:
        A classifier of the data's classes.

    Example:
        >>> model = acclimate.probe("efficientnet-lite0", "photos/", image_size=32)
        >>> model.classes
        ('one', 'seven')
    """
    here = as_context(context, progress=progress)
    start = resized_classifier(model, contract, image_size, registry=here.registry)
    return _probe(
        start, as_dataset(data, context=here), from_keywords(Probe, settings), context=here
    )


def distill(
    teacher: AnyTeachers,
    data: AnyData,
    *,
    policy: Policy | None = None,
    context: Context | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Distill
) -> Classifier:
    """Trains a student on the outputs of teachers; see `acclimate.distillation.distill.distill`.

    Args:
        teacher: One or several models of the data's classes, or functions from RGB images
            (float32 in [0, 1], (b, 3, S, S)) to logits (b, C).
        data: Folder, list or data set.
        policy: From `augment()`; without one the augmentations are tested on the data.
        context: Seed, device, workspace, progress.
        progress: Receives messages and progress, in place of the context's.
        **settings: Fields of `Distill`; `student` may be a classifier too.

    Returns:
        The student.

    Example:
        >>> policy = acclimate.augment(policy="basic")
        >>> student = acclimate.distill(
        ...     "leaf.model", "photos/", student="leaf.model", policy=policy, epochs=1
        ... )
        >>> student.card.steps[-1].stage
        'distill'
    """
    start = settings.get("student")
    if isinstance(start, Classifier):
        settings["student"] = start.name
    own = start if isinstance(start, Classifier) else None
    made, here = from_keywords(Distill, settings), as_context(context, progress=progress)
    teachers, dataset = as_teachers(teacher, here), as_dataset(data, context=here)
    policy = as_policy(policy, teachers[0] if teachers else None, dataset, context=here)
    return _distill(teachers, dataset, policy, made, context=here, start=own)


def prune(
    model: AnyModel,
    data: AnyData,
    *,
    policy: Policy | None = None,
    context: Context | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Prune
) -> Classifier:
    """Removes channels and trains the rest; see `acclimate.compression.prune.prune`.

    Args:
        model: A model of the data's classes.
        data: Folder, list or data set.
        policy: From `augment()`; without one the augmentations are tested on the data.
        context: Seed, device, workspace, progress.
        progress: Receives messages and progress, in place of the context's.
        **settings: Fields of `Prune`.

    Returns:
        The pruned model, or the given one with the reason in its card.

    Example:
        >>> policy = acclimate.augment(policy="basic")
        >>> small = acclimate.prune("leaf.model", "photos/", policy=policy, epochs=1)
        >>> small.card.steps[-1].stage
        'prune'
    """
    here = as_context(context, progress=progress)
    made = from_keywords(Prune, settings)
    start, dataset = as_classifier(model, registry=here.registry), as_dataset(data, context=here)
    policy = as_policy(policy, start, dataset, context=here)
    return _prune(start, dataset, policy, made, context=here)


def quantize(
    model: AnyModel,
    data: AnyData,
    *,
    policy: Policy | None = None,
    context: Context | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Quantize
) -> Classifier:
    """Turns a model into 8-bit integers; see `acclimate.compression.quantize.quantize`.

    Args:
        model: A model of the data's classes.
        data: Folder, list or data set.
        policy: From `augment()`, for the training that recovers accuracy; the default policy when
            None.
        context: Seed, device, workspace, progress.
        progress: Receives messages and progress, in place of the context's.
        **settings: Fields of `Quantize`.

    Returns:
        The int8 model with its ONNX graph, or the float one with the reason in its card.

    Example:
        >>> small = acclimate.quantize("leaf.model", "photos/", max_accuracy_drop=100)
        >>> small.precision
        'int8'
    """
    here = as_context(context, progress=progress)
    made = from_keywords(Quantize, settings)
    found = as_dataset(data, context=here)
    return _quantize(
        as_classifier(model, registry=here.registry), found, policy, made, context=here
    )


def compress(
    model: AnyModel,
    data: AnyData,
    *,
    policy: Policy | None = None,
    context: Context | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Compress
) -> Classifier:
    """Searches for the fastest or smallest form of a model inside an accuracy budget.

    See `acclimate.compression.compress.compress`. The last step of the result's card says by how
    much accuracy can have dropped, and whether that is within the budget.

    Args:
        model: A float model of the data's classes.
        data: Folder, list or data set, with val images.
        policy: From `augment()`, for candidates that are trained; the default policy when None.
        context: Seed, device, workspace, progress. The workspace keeps all candidates.
        progress: Receives messages and progress, in place of the context's.
        **settings: Fields of `Compress`.

    Returns:
        The best model, exported.

    Example:
        >>> small = acclimate.compress("leaf.model", "photos/", allow="quantize")
        >>> small.card.steps[-1].figures["limits_met"]
        1.0
    """
    here = as_context(context, progress=progress)
    made = from_keywords(Compress, settings)
    found = as_dataset(data, context=here)
    return _compress(
        as_classifier(model, registry=here.registry), found, policy, made, context=here
    )
