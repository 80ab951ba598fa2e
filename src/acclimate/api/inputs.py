"""Turns paths, names and values into a Dataset, teachers, a Policy and a Context."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import nn

from acclimate.augmentation.auto_policy import auto_policy
from acclimate.augmentation.policy import Policy
from acclimate.augmentation.settings import Augment
from acclimate.cleaning.clean import load_or_clean
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.data.settings import Source
from acclimate.models.classifier import Classifier
from acclimate.models.pretrained import pretrained
from acclimate.models.settings import Model
from acclimate.registry.resolve import AnyModel, as_classifier

if TYPE_CHECKING:
    from acclimate.distillation.teachers import AnyTeacher, TeacherFunction

AnyData = Dataset | str | Path
AnyTeachers: TypeAlias = "AnyModel | TeacherFunction | Sequence[AnyModel | TeacherFunction]"


def as_context(context: Context | None, **given: Any) -> Context:  # noqa: ANN401 - its fields
    """A context with some of its fields replaced.

    Args:
        context: None is the default one.
        **given: Fields; those that are None are left as they are.

    Returns:
        The context.
    """
    fields = {name: value for name, value in given.items() if value is not None}
    return replace(context or Context(), **fields)


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
    if isinstance(given, (Classifier, nn.Module, str, Path)):
        return [as_classifier(given, registry=context.registry if context else None)]
    return [given]


def as_dataset(
    data: AnyData,
    *,
    source: Source | None = None,
    settings: Clean | None = None,
    context: Context | None = None,
) -> Dataset:
    """Turns data into a data set: a folder or list is read, cleaned and split.

    Args:
        data: Data set, folder, CSV or Parquet.
        source: How a folder or list is read.
        settings: How it is cleaned and split.
        context: The run.

    Returns:
        A data set that stages can use.

    Raises:
        DataError: No image can be used.
    """
    if isinstance(data, Dataset):
        return data
    return load_or_clean(
        Path(data),
        source=source or Source(),
        settings=settings or Clean(),
        context=context or Context(),
    )


def as_evaluation_data(
    data: AnyData, *, source: Source | None = None, context: Context | None = None
) -> Dataset:
    """Turns data into a data set to evaluate on: images without a split are all test images.

    Args:
        data: Data set, folder, CSV or Parquet.
        source: How a folder or list is read.
        context: The run.

    Returns:
        The data set.
    """
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
