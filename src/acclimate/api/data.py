"""The stages on data as Python functions, under the names of their commands."""

from collections.abc import Iterable
from typing import Any

from acclimate.api.inputs import (
    AnyData,
    as_context,
    as_dataset,
    as_listing,
    as_model,
    as_policy,
)
from acclimate.arguments import checked
from acclimate.augmentation.policy import Policy
from acclimate.augmentation.policy import choose_policy as _choose_policy
from acclimate.augmentation.settings import Augment
from acclimate.cleaning.clean import clean as _clean
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.data.images.contract import InputContract
from acclimate.data.settings import Source
from acclimate.errors import RecipeError
from acclimate.files import AnyPath
from acclimate.inspection.inspect import inspect as _inspect
from acclimate.inspection.settings import Inspect
from acclimate.progress import Progress
from acclimate.registry.resolve import AnyModel
from acclimate.settings import from_keywords


@checked
def clean(
    data: AnyData,
    *,
    seed: int | None = None,
    progress: Progress | None = None,
    context: Context | None = None,
    leave_out_classes: Iterable[str] = (),
    group_from: str | None = None,
    allow_outside: bool = False,
    **settings: Any,  # noqa: ANN401 - fields of Clean and Source
) -> Dataset:
    """Checks every image, and splits images without a split; see `acclimate.cleaning.clean.clean`.

    Args:
        data: Folder, archive, CSV or Parquet list, table of pandas or polars with the columns path
            and label, pairs of path and label, or torchvision's ImageFolder.
        seed: Random seed of the split; 0 when None.
        progress: Receives messages and progress.
        context: Seed, progress, and the cache of decoded images.
        leave_out_classes: Class folders to ignore.
        group_from: Regular expression for the group in each path; its first (…), or else the whole
            match.
        allow_outside: Whether links and listed paths may lead out of the folder.
        **settings: Fields of `Clean`, and other fields of `Source`, such as `bits`.

    Returns:
        The data set.

    Example:
        >>> photos = acclimate.clean("photos/", test=0.2)
        >>> photos.classes
        ('one', 'seven')
    """
    given = {
        "leave_out_classes": tuple(leave_out_classes),
        "group_from": group_from,
        "allow_outside": allow_outside,
    }
    given |= {name: settings.pop(name) for name in list(settings) if name in Source.model_fields}
    source, made = from_keywords(Source, given), from_keywords(Clean, settings)
    here = as_context(context, seed=seed, progress=progress)
    return _clean(as_listing(data, source), made, context=here)


@checked
def inspect(
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
    **settings: Any,  # noqa: ANN401 - fields of Inspect
) -> Dataset:
    """Flags probable label errors and outliers; see `acclimate.inspection.inspect.inspect`.

    Args:
        model: Name, folder, classifier or module, whose features are used.
        data: Folder, list or data set.
        weights: A file with weights of the architecture that `model` names.
        contract: Input size and normalization of a module.
        image_size: Input size in px; None is the model's own.
        allow_outside: Whether links and listed paths may lead out of the data's folder.
        device: "auto", "cpu", "cuda", …; None is the context's.
        seed: Random seed; None is the context's.
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
    here = as_context(context, device=device, seed=seed, progress=progress)
    start = as_model(model, weights=weights, contract=contract, image_size=image_size, context=here)
    return _inspect(
        start,
        as_dataset(data, allow_outside=allow_outside, context=here),
        from_keywords(Inspect, settings),
        context=here,
    )


@checked
def augment(
    model: AnyModel | None = None,
    data: AnyData | None = None,
    *,
    weights: AnyPath | None = None,
    contract: InputContract | None = None,
    image_size: int | None = None,
    allow_outside: bool = False,
    device: str | None = None,
    seed: int | None = None,
    context: Context | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Augment
) -> Policy:
    """Tests which augmentations keep the labels of your images true.

    Args:
        model: Name, folder, classifier or module, whose features are used.
        data: Folder, list or data set. Without model and data nothing is tested: settings left at
            auto then give a gentle policy without flips.
        weights: A file with weights of the architecture that `model` names.
        contract: Input size and normalization of a module.
        image_size: Input size in px; None is the model's own.
        allow_outside: Whether links and listed paths may lead out of the data's folder.
        device: "auto", "cpu", "cuda", …; None is the context's.
        seed: Random seed; None is the context's.
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
    here = as_context(context, device=device, seed=seed, progress=progress)
    start = as_model(model, weights=weights, contract=contract, image_size=image_size, context=here)
    return as_policy(
        None,
        start,
        as_dataset(data, allow_outside=allow_outside, context=here),
        settings=made,
        context=here,
    )
