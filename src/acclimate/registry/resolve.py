"""Resolves names, paths, modules and registered versions to classifiers."""

import os
from pathlib import Path
from typing import Annotated

from torch import nn

from acclimate.arguments import kind_of
from acclimate.data.images.contract import InputContract
from acclimate.errors import WrongType
from acclimate.files import AnyPath
from acclimate.models.classifier import Classifier
from acclimate.models.model_names import PACKAGED
from acclimate.models.onnx.export import from_onnx
from acclimate.models.pretrained import pretrained, resized, wrap
from acclimate.models.settings import Model
from acclimate.registry.reference import PREFIX, split_reference
from acclimate.registry.settings import Register

AnyModel = Annotated[Classifier | nn.Module | AnyPath, "checked by as_classifier"]


def as_classifier(
    model: AnyModel,
    *,
    contract: InputContract | None = None,
    settings: Model | None = None,
    registry: Register | None = None,
) -> Classifier:
    """Resolves a model to a classifier.

    Args:
        model: Classifier, module, name, folder, `.onnx` file, or `models:NAME@ALIAS`.
        contract: The input contract of a module.
        settings: Weights and input size for a name.
        registry: The registry for `models:` references.

    Returns:
        The classifier.

    Raises:
        ModelFileError: There is no such model.
        NotTrusted: The signature of a registered model does not match.
    """
    if isinstance(model, Classifier):
        return model
    if isinstance(model, nn.Module):
        return wrap(model, contract)
    if not isinstance(model, (str, os.PathLike)):
        raise WrongType(
            f"is {kind_of(model)}, not a model.",
            where="model",
            hint="Give a name, a folder, a file, a Classifier or a torch.nn.Module.",
        )
    text = os.fspath(model)
    if text.startswith(PREFIX):
        # Imported here: MLflow takes 1.5 seconds to import, and most models are files.
        from acclimate.registry.versions import Registry

        store = Registry(registry or Register(), create=False)
        return store.load(store.version(*split_reference(text)))
    if text.endswith(".onnx") and Path(text).is_file():
        return from_onnx(Path(text))
    return pretrained((settings or Model()).model_copy(update={"name": text}))


def resized_classifier(
    model: AnyModel,
    contract: InputContract | None,
    image_size: int | None,
    *,
    registry: Register | None = None,
) -> Classifier:
    """Resolves a model to a classifier with a given input size.

    Args:
        model: As for `as_classifier`.
        contract: The input contract of a module.
        image_size: px; None for the model's own.
        registry: The registry for `models:` references.

    Returns:
        The classifier.

    Raises:
        ModelFileError: There is no such model.
    """
    found = as_classifier(model, contract=contract, registry=registry)
    return found if image_size is None else resized(found, image_size)


def is_pretrained_name(text: str) -> bool:
    """Whether a text names pretrained weights, not a model that was trained or exported.

    Args:
        text: Name, folder, `.onnx` file, or `models:NAME@ALIAS`.

    Returns:
        False for a registered version, an existing folder and an existing `.onnx` file.
    """
    if text.startswith(PREFIX) or (text.endswith(".onnx") and Path(text).is_file()):
        return False
    return text in PACKAGED or not Path(text).is_dir()
