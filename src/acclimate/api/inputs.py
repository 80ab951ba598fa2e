"""What somebody means by a model and by data: names, folders, files and values."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import nn

from acclimate.cleaning.clean import opened
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.contract import InputContract
from acclimate.data.dataset import Dataset
from acclimate.data.settings import Source
from acclimate.models.classifier import Classifier
from acclimate.models.export import from_onnx
from acclimate.models.pretrained import pretrained, resized, wrap
from acclimate.models.settings import Model
from acclimate.registry.reference import PREFIX, split_reference
from acclimate.registry.settings import Register

if TYPE_CHECKING:
    from acclimate.training.teachers import AnyTeacher, TeachingFunction

AnyModel = Classifier | nn.Module | str | Path
AnyData = Dataset | str | Path
AnyTeachers: TypeAlias = "AnyModel | TeachingFunction | Sequence[AnyModel | TeachingFunction]"


def as_classifier(
    model: AnyModel,
    *,
    contract: InputContract | None = None,
    settings: Model | None = None,
    registry: Register | None = None,
) -> Classifier:
    """What somebody means by a model.

    Args:
        model: Classifier, module, name, folder, `.onnx` file, or `models:NAME@ALIAS`.
        contract: What a module expects of pixels.
        settings: Weights and input size, for a name.
        registry: Where `models:` is looked up.

    Returns:
        The classifier.

    Raises:
        ModelFileError: There is no such model.
        NotTrusted: A registered model's signature does not fit.
    """
    if isinstance(model, Classifier):
        return model
    if isinstance(model, nn.Module):
        return wrap(model, contract)
    text = str(model)
    if text.startswith(PREFIX):
        # Imported here: MLflow takes one and a half seconds to come, and most models are files.
        from acclimate.registry.versions import Registry

        store = Registry(registry or Register(), create=False)
        return store.load(store.version(*split_reference(text)))
    if text.endswith(".onnx") and Path(text).is_file():
        return from_onnx(Path(text))
    return pretrained((settings or Model()).model_copy(update={"name": text}))


def sized(model: AnyModel, contract: InputContract | None, image_size: int | None) -> Classifier:
    """What somebody means by a model, for images of a size.

    Args:
        model: As for `as_classifier`.
        contract: What a module expects of pixels.
        image_size: px; None is the model's own.

    Returns:
        The classifier.

    Raises:
        ModelFileError: There is no such model.
    """
    found = as_classifier(model, contract=contract)
    return found if image_size is None else resized(found, image_size)


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
    return opened(
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
