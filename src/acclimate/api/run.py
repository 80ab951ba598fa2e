"""`acclimate.run`: all stages, on a recipe, a recipe file, a mapping, or a folder with keywords."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acclimate.api.inputs import as_context
from acclimate.arguments import checked
from acclimate.context import Context
from acclimate.files import AnyPath
from acclimate.pipeline.finish import RunResult
from acclimate.pipeline.run import run as _run
from acclimate.progress import Progress
from acclimate.recipe import Recipe, validated
from acclimate.settings import SHORT, Settings

_RECIPES = (".yaml", ".yml")


@checked
def run(
    recipe: Recipe | Mapping[str, Any] | AnyPath,
    out: AnyPath = "runs",
    *,
    model: AnyPath | Mapping[str, Any] | Settings | None = None,
    weights: AnyPath | None = None,
    allow_outside: bool | None = None,
    epochs: int | None = None,
    max_minutes: float | None = None,
    device: str | None = None,
    until: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
    context: Context | None = None,
    **sections: Any,  # noqa: ANN401 - sections of the recipe
) -> RunResult | None:
    """Runs all stages; a step that is done already is not run again.

    Args:
        recipe: A recipe, its file (.yaml), a mapping of its sections, or the place of the images.
        out: The run's folder is `out/<name>`.
        model: Name or folder of the model to start from.
        weights: A file with weights of the architecture that `model` names.
        allow_outside: Whether links and listed paths may lead out of the data's folder.
        epochs: Passes over the training images in every training.
        max_minutes: Time for all trainings together.
        device: "auto", "cpu", "cuda", …
        until: Stop after this step.
        force: Run every step again, even if its result exists.
        progress: Receives messages and progress.
        context: Device and progress.
        **sections: name, seed, and sections of the recipe as mappings: `fine_tune={"lr": 1e-3}`;
            None leaves a stage out.

    Returns:
        What the run wrote and measured; None if it stopped after `until`.

    Raises:
        RecipeError: A setting is wrong, or there is no data.
        OutputError: The place is full, read-only, or used by another run.

    Example:
        >>> result = acclimate.run(
        ...     "photos/", model="leaf.model", inspect=None, fine_tune=None, compress=None,
        ...     registry=None, augment={"policy": "basic"},
        ...     evaluate={"latency": False},
        ... )
        >>> result.ran[:3]
        ('clean', 'probe', 'augment')
        >>> acclimate.predict(result.model, "photo.jpg")[0].error is None
        True
    """
    base, place = _base(recipe)
    given = {name: _plain(section) for name, section in sections.items()}
    if place is not None:
        _put(given, "data", path=place)
    if allow_outside is not None:
        _put(given, "data", allow_outside=allow_outside)
    if isinstance(model, (str, os.PathLike)):
        _put(given, "model", name=os.fspath(model))
    elif model is not None:
        given["model"] = _plain(model)
    if weights is not None:
        _put(given, "model", weights=Path(weights))
    made = _with_sections(base, given).limited(epochs=epochs, max_minutes=max_minutes)
    here = as_context(context, device=device, progress=progress)
    return _run(made, Path(out), context=here, until=until, force=force)


def _base(recipe: Recipe | Mapping[str, Any] | AnyPath) -> tuple[Recipe, Path | None]:
    """A recipe, and the place of the images if that was given in its stead."""
    if isinstance(recipe, Recipe):
        return recipe, None
    if isinstance(recipe, Mapping):
        return _with_sections(Recipe(), {n: _plain(section) for n, section in recipe.items()}), None
    place = Path(recipe)
    if place.suffix in _RECIPES:
        return Recipe.load(place), None
    return Recipe(), place.absolute()


def _plain(section: object) -> object:
    """A section as a mapping of what it sets; other values as they are."""
    if isinstance(section, Settings):
        return section.model_dump(exclude_unset=True)
    if not isinstance(section, Mapping):
        return section
    return {SHORT.get(str(name), str(name)): value for name, value in section.items()}


def _put(given: dict[str, Any], section: str, **values: object) -> None:
    given[section] = {**(given.get(section) or {}), **values}


def _with_sections(recipe: Recipe, given: Mapping[str, Any]) -> Recipe:
    """A recipe with other settings in some of its sections."""
    values = recipe.model_dump(exclude_unset=True)
    for name, section in given.items():
        before = values.get(name)
        if isinstance(before, dict) and isinstance(section, dict):
            section = {**before, **section}
        values[name] = section
    found: Recipe = validated(Recipe, values, {}, None)
    return found
