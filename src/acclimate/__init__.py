"""Acclimate fits a pretrained image classifier to your own images, and ships it.

    import acclimate

    photos = acclimate.clean("photos/")
    model = acclimate.fine_tune("efficientnet-lite0", photos, epochs=5)
    small = acclimate.quantize(model, photos)
    print(acclimate.evaluate(small, photos).metrics["home"]["accuracy"])
    small.save("leaf.model")
    print(acclimate.load("leaf.model").predict("photo.jpg"))

Names are imported when first used, so that `import acclimate` costs nothing.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# ONNX Runtime and MLflow send telemetry unless these are set before they are imported. Nothing
# about a user's images is sent anywhere; whoever wants telemetry sets the variable themselves.
for _variable in ("ORT_DISABLE_TELEMETRY", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
    os.environ.setdefault(_variable, "true")

_PUBLIC = {
    "augment": "acclimate.api.data",
    "clean": "acclimate.api.data",
    "compare": "acclimate.api.models",
    "compress": "acclimate.api.stages",
    "distill": "acclimate.api.stages",
    "evaluate": "acclimate.api.models",
    "export": "acclimate.api.models",
    "extract_features": "acclimate.api.models",
    "fine_tune": "acclimate.api.fine_tune",
    "inspect": "acclimate.api.data",
    "limit_threads": "acclimate.cpu",
    "load": "acclimate.api.load",
    "predict": "acclimate.api.models",
    "probe": "acclimate.api.stages",
    "prune": "acclimate.api.stages",
    "quantize": "acclimate.api.stages",
    "read_onnx": "acclimate.api.models",
    "search": "acclimate.api.search",
    "AcclimateError": "acclimate.errors",
    "Classifier": "acclimate.models.classifier",
    "Comparison": "acclimate.evaluation.comparison",
    "Context": "acclimate.context",
    "Dataset": "acclimate.data.dataset",
    "Evaluation": "acclimate.evaluation.evaluate",
    "InputContract": "acclimate.data.images.contract",
    "LogProgress": "acclimate.progress",
    "Policy": "acclimate.augmentation.policy",
    "Recipe": "acclimate.recipe",
    "Registry": "acclimate.registry.versions",
    "silent": "acclimate.progress",
    "run": "acclimate.api.run",
}

__all__ = sorted([*_PUBLIC, "__version__"])

if TYPE_CHECKING:
    from acclimate.api.data import augment as augment
    from acclimate.api.data import clean as clean
    from acclimate.api.data import inspect as inspect
    from acclimate.api.fine_tune import fine_tune as fine_tune
    from acclimate.api.load import load as load
    from acclimate.api.models import compare as compare
    from acclimate.api.models import evaluate as evaluate
    from acclimate.api.models import export as export
    from acclimate.api.models import extract_features as extract_features
    from acclimate.api.models import predict as predict
    from acclimate.api.models import read_onnx as read_onnx
    from acclimate.api.run import run as run
    from acclimate.api.search import search as search
    from acclimate.api.stages import compress as compress
    from acclimate.api.stages import distill as distill
    from acclimate.api.stages import probe as probe
    from acclimate.api.stages import prune as prune
    from acclimate.api.stages import quantize as quantize
    from acclimate.context import Context as Context
    from acclimate.cpu import limit_threads as limit_threads
    from acclimate.data.dataset import Dataset as Dataset
    from acclimate.data.images.contract import InputContract as InputContract
    from acclimate.errors import AcclimateError as AcclimateError
    from acclimate.evaluation.comparison import Comparison as Comparison
    from acclimate.evaluation.evaluate import Evaluation as Evaluation
    from acclimate.models.classifier import Classifier as Classifier
    from acclimate.progress import LogProgress as LogProgress
    from acclimate.progress import silent as silent
    from acclimate.recipe import Recipe as Recipe
    from acclimate.registry.versions import Registry as Registry


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public object
    """Imports a public name when it is first used (PEP 562)."""
    if name in _PUBLIC:
        value = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return list(__all__)
