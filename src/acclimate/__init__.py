"""Acclimate fits a pretrained image classifier to your own images, and ships it.

    import acclimate

    photos = acclimate.clean("photos/")
    model = acclimate.fine_tune("efficientnet-lite0", photos, epochs=5)
    small = acclimate.quantize(model, photos)
    print(acclimate.evaluate(small, photos).metrics["home"]["accuracy"])
    small.save(Path("leaf.model"))

Names are imported when first used, so that `import acclimate` costs nothing.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# ONNX Runtime's and MLflow's own reports to their makers, read when they are imported. What is done
# with a user's images is nobody else's business; who wants them sets the variable themselves.
for _variable in ("ORT_DISABLE_TELEMETRY", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
    os.environ.setdefault(_variable, "true")

_PUBLIC = {
    "augment": "acclimate.api",
    "clean": "acclimate.api",
    "compare": "acclimate.api",
    "distill": "acclimate.api",
    "evaluate": "acclimate.api",
    "export": "acclimate.api",
    "fine_tune": "acclimate.tuning",
    "inspect": "acclimate.api",
    "predict": "acclimate.api",
    "probe": "acclimate.api",
    "prune": "acclimate.api",
    "quantize": "acclimate.api",
    "read_onnx": "acclimate.api",
    "search": "acclimate.tuning",
    "AcclimateError": "acclimate.errors",
    "Classifier": "acclimate.models.classifier",
    "Comparison": "acclimate.evaluation.comparison",
    "Context": "acclimate.context",
    "Dataset": "acclimate.data.dataset",
    "Evaluation": "acclimate.evaluation.evaluate",
    "InputContract": "acclimate.data.contract",
    "LogProgress": "acclimate.progress",
    "Policy": "acclimate.augmentation.policy",
    "Recipe": "acclimate.recipe",
    "Registry": "acclimate.registry.versions",
    "run": "acclimate.pipeline",
}

__all__ = sorted([*_PUBLIC, "__version__"])

if TYPE_CHECKING:
    from acclimate.api import augment as augment
    from acclimate.api import clean as clean
    from acclimate.api import compare as compare
    from acclimate.api import distill as distill
    from acclimate.api import evaluate as evaluate
    from acclimate.api import export as export
    from acclimate.api import inspect as inspect
    from acclimate.api import predict as predict
    from acclimate.api import probe as probe
    from acclimate.api import prune as prune
    from acclimate.api import quantize as quantize
    from acclimate.api import read_onnx as read_onnx
    from acclimate.context import Context as Context
    from acclimate.data.contract import InputContract as InputContract
    from acclimate.data.dataset import Dataset as Dataset
    from acclimate.errors import AcclimateError as AcclimateError
    from acclimate.evaluation.comparison import Comparison as Comparison
    from acclimate.evaluation.evaluate import Evaluation as Evaluation
    from acclimate.models.classifier import Classifier as Classifier
    from acclimate.pipeline import run as run
    from acclimate.progress import LogProgress as LogProgress
    from acclimate.recipe import Recipe as Recipe
    from acclimate.registry.versions import Registry as Registry
    from acclimate.tuning import fine_tune as fine_tune
    from acclimate.tuning import search as search


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    """Imports a public name when it is first used (PEP 562)."""
    if name in _PUBLIC:
        value = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return list(__all__)
