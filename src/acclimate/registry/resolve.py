"""Turns a name, a path, a module or a registered version into a Classifier."""

from pathlib import Path

from torch import nn

from acclimate.data.images.contract import InputContract
from acclimate.models.classifier import Classifier
from acclimate.models.onnx.export import from_onnx
from acclimate.models.pretrained import PACKAGED, pretrained, resized, wrap
from acclimate.models.settings import Model
from acclimate.registry.reference import PREFIX, split_reference
from acclimate.registry.settings import Register

AnyModel = Classifier | nn.Module | str | Path


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


def resized_classifier(
    model: AnyModel,
    contract: InputContract | None,
    image_size: int | None,
    *,
    registry: Register | None = None,
) -> Classifier:
    """What somebody means by a model, for images of a size.

    Args:
        model: As for `as_classifier`.
        contract: What a module expects of pixels.
        image_size: px; None is the model's own.
        registry: Where `models:` is looked up.

    Returns:
        The classifier.

    Raises:
        ModelFileError: There is no such model.
    """
    found = as_classifier(model, contract=contract, registry=registry)
    return found if image_size is None else resized(found, image_size)


def is_pretrained_name(text: str) -> bool:
    """Whether a text names pretrained weights, and not a model that somebody made.

    Args:
        text: Name, folder, `.onnx` file, or `models:NAME@ALIAS`.

    Returns:
        False for a registered version, and for a folder or an `.onnx` file that is there.
    """
    if text.startswith(PREFIX) or (text.endswith(".onnx") and Path(text).is_file()):
        return False
    return text in PACKAGED or not Path(text).is_dir()
