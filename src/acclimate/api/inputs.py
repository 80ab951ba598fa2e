"""Turns paths, names and values into a Dataset, teachers, a Policy and a Context."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeAlias

from torch import nn

from acclimate.arguments import kind_of
from acclimate.augmentation.auto_policy import auto_policy
from acclimate.augmentation.policy import Policy
from acclimate.augmentation.settings import Augment
from acclimate.cleaning.clean import clean, load_or_clean
from acclimate.cleaning.settings import Clean
from acclimate.context import Context, process_rank
from acclimate.data.dataset import Dataset
from acclimate.data.images.contract import InputContract
from acclimate.data.settings import Source
from acclimate.data.sources.in_memory import WANTED, is_listing, read_listing
from acclimate.data.sources.read import read
from acclimate.errors import RecipeError, WrongType
from acclimate.files import AnyPath
from acclimate.models.classifier import Classifier
from acclimate.models.pretrained import pretrained
from acclimate.models.settings import Model
from acclimate.progress import Progress, silent
from acclimate.registry.resolve import AnyModel, as_classifier, resized_classifier

if TYPE_CHECKING:
    from acclimate.distillation.teachers import AnyTeacher, TeacherFunction


class Samples(Protocol):
    """torchvision's ImageFolder, or a data set like it."""

    samples: list[tuple[str, int]]
    classes: list[str]


class Table(Protocol):
    """A table of pandas or polars, with the columns path, label and, if wanted, split."""

    @property
    def columns(self) -> Any:  # noqa: ANN401 - an index of pandas, a list of polars
        """The names of the columns."""


AnyData = Annotated[
    Dataset | AnyPath | Table | Samples | Sequence[tuple[AnyPath, str]], "checked by as_dataset"
]
AnyTeachers: TypeAlias = "AnyModel | TeacherFunction | Sequence[AnyModel | TeacherFunction]"


def as_context(context: Context | None, **given: Any) -> Context:  # noqa: ANN401 - its fields
    """A context with some of its fields replaced.

    Args:
        context: None is the default one, with progress shown in a terminal and a notebook.
        **given: Fields; those that are None are left as they are.

    Returns:
        The context.
    """
    fields = {name: value for name, value in given.items() if value is not None}
    if context is None:
        fields.setdefault("progress", shown_progress())
    return replace(context or Context(), **fields)


def shown_progress() -> Progress:
    """Bars in a terminal and a notebook; nothing where nobody watches."""
    if "ipykernel" in sys.modules:
        from acclimate.bars import notebook_progress

        return notebook_progress()
    if sys.stderr is None or not sys.stderr.isatty() or process_rank() > 0:
        return silent
    from acclimate.bars import TerminalProgress

    return TerminalProgress()


def as_model(
    model: AnyModel,
    *,
    weights: AnyPath | None = None,
    contract: InputContract | None = None,
    image_size: int | None = None,
    context: Context,
) -> Classifier:
    """Turns a model in any form into a classifier.

    Args:
        model: Name, folder, file, classifier or module.
        weights: A file with weights of the architecture that is named.
        contract: The input contract of a module.
        image_size: px; None for the model's own.
        context: Its registry is the store of models that are named `models:NAME@ALIAS`.

    Returns:
        The classifier.

    Raises:
        ModelFileError: There is no such model, or the weights do not fit.
        RecipeError: Weights are given for a model that has its own.
    """
    if weights is None:
        return resized_classifier(model, contract, image_size, registry=context.registry)
    if not isinstance(model, (str, os.PathLike)):
        raise RecipeError(
            f"weights do not apply to {kind_of(model)}, which has its own.",
            where="weights",
            hint="Give the name of an architecture, such as timm:resnet50, with them.",
        )
    settings = Model(name=os.fspath(model), weights=Path(weights), image_size=image_size or "auto")
    return pretrained(settings)


def as_teachers(given: AnyTeachers, context: Context | None = None) -> "list[AnyTeacher]":
    """Turns one teacher or several into classifiers and functions.

    Args:
        given: Models in any form, or functions from images to logits; one or a sequence.
        context: Its registry is the store of models that are named `models:NAME@ALIAS`.

    Returns:
        Classifiers and functions, in the same order.

    Raises:
        ModelFileError: There is no such model.
    """
    if isinstance(given, Sequence) and not isinstance(given, str):
        return [teacher for one in given for teacher in as_teachers(one, context)]
    if isinstance(given, (Classifier, nn.Module, str, os.PathLike)):
        return [as_classifier(given, registry=context.registry if context else None)]
    if not callable(given):
        raise WrongType(
            f"is {kind_of(given)}, neither a model nor a function of images.", where="teacher"
        )
    return [given]


def as_dataset(
    data: AnyData,
    *,
    source: Source | None = None,
    settings: Clean | None = None,
    allow_outside: bool = False,
    context: Context | None = None,
) -> Dataset:
    """Turns data into a data set: a folder or list is read, cleaned and split.

    Args:
        data: Data set, folder, archive, list, table of pandas, pairs of path and label, or
            torchvision's ImageFolder.
        source: How a folder or list is read.
        settings: How it is cleaned and split.
        allow_outside: In place of a source, its setting.
        context: The run.

    Returns:
        A data set that stages can use.

    Raises:
        DataError: No image can be used.
    """
    if isinstance(data, Dataset):
        return data
    source = source or Source(allow_outside=allow_outside)
    settings, context = settings or Clean(), context or Context()
    if not isinstance(data, (str, os.PathLike)):
        return clean(as_listing(data, source), settings, context=context)
    return load_or_clean(Path(data), source=source, settings=settings, context=context)


def as_listing(data: AnyData, source: Source) -> Dataset:
    """Lists the images of data in any form, without opening them.

    Args:
        data: As for `as_dataset`.
        source: How it is read.

    Returns:
        The data set, not yet cleaned unless it was given as a data set.

    Raises:
        DataError: There are no images.
        WrongType: The value is no data.
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, (str, os.PathLike)):
        return read(Path(data), source)
    if not is_listing(data):
        raise WrongType(f"is {kind_of(data)}. {WANTED}", where="data")
    return read_listing(data, source)


def as_evaluation_data(
    data: AnyData,
    *,
    source: Source | None = None,
    allow_outside: bool = False,
    context: Context | None = None,
) -> Dataset:
    """Turns data into a data set to evaluate on: images without a split are all test images.

    Args:
        data: Data set, folder, CSV or Parquet.
        source: How a folder or list is read.
        allow_outside: In place of a source, its setting.
        context: The run.

    Returns:
        The data set.
    """
    source = source or Source(allow_outside=allow_outside)
    return as_dataset(data, source=source, settings=Clean(val=0.0, test=1.0), context=context)


def as_policy(
    policy: Policy | None,
    classifier: object,
    dataset: Dataset,
    *,
    settings: Augment | None = None,
    fallback: Model | None = None,
    context: Context,
) -> Policy:
    """The policy that is given, or one whose augmentations are tested on the data.

    Args:
        policy: From `augment()`; None is to test the augmentations.
        classifier: Its backbone tests them. A pretrained model does so in place of a function
            or of a graph without a network.
        dataset: The images.
        settings: What is left at auto is tested.
        fallback: The model that does so, if it is not the packaged one.
        context: The run.

    Returns:
        The policy.
    """
    if policy is not None:
        return policy
    if not isinstance(classifier, Classifier) or classifier.network is None:
        classifier = pretrained(fallback or Model())
    return auto_policy(classifier, dataset, settings or Augment(), context=context)
