"""`acclimate.load`: whatever acclimate wrote, by its content."""

from pathlib import Path
from typing import Any

from torch import nn

from acclimate.arguments import checked
from acclimate.errors import DataError
from acclimate.files import AnyPath
from acclimate.models.classifier import Classifier
from acclimate.pipeline.artifacts import ARTIFACTS
from acclimate.recipe import Recipe
from acclimate.registry.reference import PREFIX
from acclimate.registry.resolve import as_classifier


@checked
def load(path: AnyPath, *, network: nn.Module | None = None) -> Any:  # noqa: ANN401 - of many classes
    """Loads a model, or anything else that acclimate wrote.

    Args:
        path: A model folder, a folder of `acclimate run`, an ONNX file, a registered model such as
            `models:leaf@champion`, a data set, an evaluation, a comparison, a policy, or a recipe.
        network: For a model of a module of your own, a module to load its weights into.

    Returns:
        A `Classifier`, `Dataset`, `Evaluation`, `Comparison`, `Policy` or `Recipe`.

    Raises:
        DataError: There is nothing of acclimate's at this path.

    Example:
        >>> model = acclimate.load("leaf.model")
        >>> model.predict("photo.jpg")[0].label in model.classes
        True
    """
    place = Path(path)
    for name, kind in ARTIFACTS.items():
        if kind.is_at(place):
            more = {"network": network} if name == "classifier" else {}
            return kind.of().load(place, **more)
    if ARTIFACTS["classifier"].is_at(place / "model"):  # the folder of a run
        return Classifier.load(place / "model", network=network)
    if str(path).startswith(PREFIX) or place.suffix == ".onnx":
        return as_classifier(path)
    if place.suffix in (".yaml", ".yml") and place.is_file():
        return Recipe.load(place)
    what = "nothing that acclimate wrote" if place.exists() else "no such file or folder"
    raise DataError(
        f"{what}.",
        where=place,
        hint="Give a model folder, an ONNX file, a data set, an evaluation, a policy or a recipe.",
    )
