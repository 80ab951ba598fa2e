"""What somebody means by a model and by data: names, folders, files and values."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import nn

from acclimate.cleaning.clean import load_or_clean
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.data.settings import Source
from acclimate.models.classifier import Classifier
from acclimate.registry.resolve import AnyModel, as_classifier

if TYPE_CHECKING:
    from acclimate.distillation.teachers import AnyTeacher, TeachingFunction

AnyData = Dataset | str | Path
AnyTeachers: TypeAlias = "AnyModel | TeachingFunction | Sequence[AnyModel | TeachingFunction]"


def as_context(context: Context | None, **given: Any) -> Context:  # noqa: ANN401 - its fields
    """The facts of a run, with what was said beside them.

    Args:
        context: None is the default one.
        **given: Its fields; those that are not None count.

    Returns:
        The context.
    """
    said = {name: value for name, value in given.items() if value is not None}
    return replace(context or Context(), **said)


def as_teachers(given: AnyTeachers) -> "list[AnyTeacher]":
    """Whom somebody means by a teacher, or by several.

    Args:
        given: Models in any form, or functions from images to logits; one or a sequence.

    Returns:
        Classifiers and functions, in the same order.

    Raises:
        ModelFileError: There is no such model.
    """
    if isinstance(given, Sequence) and not isinstance(given, str):
        return [teacher for one in given for teacher in as_teachers(one)]
    if isinstance(given, (Classifier, nn.Module, str, Path)):
        return [as_classifier(given)]
    return [given]


def as_dataset(
    data: AnyData,
    *,
    source: Source | None = None,
    settings: Clean | None = None,
    context: Context | None = None,
) -> Dataset:
    """What somebody means by data: a folder or list is read, cleaned and split.

    Args:
        data: Data set, folder, CSV or Parquet.
        source: How a folder or list is read.
        settings: How it is cleaned and split.
        context: The run.

    Returns:
        A data set that stages can use.

    Raises:
        DataError: There is nothing usable.
    """
    if isinstance(data, Dataset):
        return data
    return load_or_clean(
        Path(data),
        source=source or Source(),
        settings=settings or Clean(),
        context=context or Context(),
    )


def to_judge(
    data: AnyData, *, source: Source | None = None, context: Context | None = None
) -> Dataset:
    """Data for evaluation alone: what has no split of its own is all test.

    Args:
        data: Data set, folder, CSV or Parquet.
        source: How a folder or list is read.
        context: The run.

    Returns:
        The data set.
    """
    return as_dataset(data, source=source, settings=Clean(val=0.0, test=1.0), context=context)
