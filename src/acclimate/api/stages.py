"""The stages up to a finished model as Python functions, under the names of their commands.

A model is a name, a folder, a file or a `torch.nn.Module`; data is a folder, a list or a `Dataset`;
settings are keywords. `lr` is short for `learning_rate`.
"""

from typing import Any

from acclimate.api.inputs import (
    AnyData,
    AnyTeachers,
    as_context,
    as_dataset,
    as_model,
    as_policy,
    as_teachers,
)
from acclimate.arguments import checked
from acclimate.augmentation.policy import Policy
from acclimate.compression.compress import compress as _compress
from acclimate.compression.prune import prune as _prune
from acclimate.compression.quantize import quantize as _quantize
from acclimate.compression.settings import Compress, Prune, Quantize
from acclimate.context import Context
from acclimate.data.images.contract import InputContract
from acclimate.distillation.distill import distill as _distill
from acclimate.distillation.settings import Distill
from acclimate.features.probe import probe as _probe
from acclimate.features.settings import Probe
from acclimate.files import AnyPath
from acclimate.models.classifier import Classifier
from acclimate.progress import Progress
from acclimate.registry.resolve import AnyModel
from acclimate.settings import from_keywords


@checked
def probe(
    model: AnyModel,
    data: AnyData,
    *,
    weights: AnyPath | None = None,
    contract: InputContract | None = None,
    image_size: int | None = None,
    allow_outside: bool = False,
    device: str | None = None,
    seed: int | None = None,
    context: Context | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Probe
) -> Classifier:
    """Fits a linear head on frozen features; see `acclimate.features.probe.probe`.

    Args:
        model: Name, folder, classifier or module.
        data: Folder, list or data set.
        weights: A file with weights of the architecture that `model` names.
        contract: Input size and normalization of a module.
        image_size: Input size in px; None is the model's own.
        allow_outside: Whether links and listed paths may lead out of the data's folder.
        device: "auto", "cpu", "cuda", …; None is the context's.
        seed: Random seed; None is the context's.
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
    here = as_context(context, device=device, seed=seed, progress=progress)
    start = as_model(model, weights=weights, contract=contract, image_size=image_size, context=here)
    return _probe(
        start,
        as_dataset(data, allow_outside=allow_outside, context=here),
        from_keywords(Probe, settings),
        context=here,
    )


@checked
def distill(
    teacher: AnyTeachers,
    data: AnyData,
    *,
    policy: Policy | None = None,
    allow_outside: bool = False,
    device: str | None = None,
    seed: int | None = None,
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
        allow_outside: Whether links and listed paths may lead out of the data's folder.
        device: "auto", "cpu", "cuda", …; None is the context's.
        seed: Random seed; None is the context's.
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
    made, here = (
        from_keywords(Distill, settings),
        as_context(context, device=device, seed=seed, progress=progress),
    )
    teachers, dataset = (
        as_teachers(teacher, here),
        as_dataset(data, allow_outside=allow_outside, context=here),
    )
    policy = as_policy(policy, teachers[0] if teachers else None, dataset, context=here)
    return _distill(teachers, dataset, policy, made, context=here, start=own)


@checked
def prune(
    model: AnyModel,
    data: AnyData,
    *,
    policy: Policy | None = None,
    allow_outside: bool = False,
    device: str | None = None,
    seed: int | None = None,
    context: Context | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Prune
) -> Classifier:
    """Removes channels and trains the rest; see `acclimate.compression.prune.prune`.

    Args:
        model: A model of the data's classes.
        data: Folder, list or data set.
        policy: From `augment()`; without one the augmentations are tested on the data.
        allow_outside: Whether links and listed paths may lead out of the data's folder.
        device: "auto", "cpu", "cuda", …; None is the context's.
        seed: Random seed; None is the context's.
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
    here = as_context(context, device=device, seed=seed, progress=progress)
    made = from_keywords(Prune, settings)
    start, dataset = (
        as_model(model, context=here),
        as_dataset(data, allow_outside=allow_outside, context=here),
    )
    policy = as_policy(policy, start, dataset, context=here)
    return _prune(start, dataset, policy, made, context=here)


@checked
def quantize(
    model: AnyModel,
    data: AnyData,
    *,
    policy: Policy | None = None,
    allow_outside: bool = False,
    device: str | None = None,
    seed: int | None = None,
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
        allow_outside: Whether links and listed paths may lead out of the data's folder.
        device: "auto", "cpu", "cuda", …; None is the context's.
        seed: Random seed; None is the context's.
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
    here = as_context(context, device=device, seed=seed, progress=progress)
    made = from_keywords(Quantize, settings)
    found = as_dataset(data, allow_outside=allow_outside, context=here)
    return _quantize(as_model(model, context=here), found, policy, made, context=here)


@checked
def compress(
    model: AnyModel,
    data: AnyData,
    *,
    policy: Policy | None = None,
    allow_outside: bool = False,
    device: str | None = None,
    seed: int | None = None,
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
        allow_outside: Whether links and listed paths may lead out of the data's folder.
        device: "auto", "cpu", "cuda", …; None is the context's.
        seed: Random seed; None is the context's.
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
    here = as_context(context, device=device, seed=seed, progress=progress)
    made = from_keywords(Compress, settings)
    found = as_dataset(data, allow_outside=allow_outside, context=here)
    return _compress(as_model(model, context=here), found, policy, made, context=here)
