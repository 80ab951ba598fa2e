"""The recipe: one file with all settings of a run.

All faults are reported at once, each with its line.
"""

import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

from pydantic import ValidationError, model_validator

from acclimate.arguments import checked
from acclimate.augmentation.settings import Augment
from acclimate.cleaning.settings import Clean
from acclimate.compression.settings import Compress, Prune, Quantize
from acclimate.data.settings import Source
from acclimate.distillation.settings import Distill
from acclimate.errors import RecipeError, near_names
from acclimate.evaluation.settings import Compare, Evaluate
from acclimate.features.settings import Probe
from acclimate.files import AnyPath
from acclimate.fine_tuning.settings import FineTune
from acclimate.hyperparameter_search.settings import Search
from acclimate.inspection.settings import Inspect
from acclimate.models.settings import Export, Model
from acclimate.registry.settings import Register
from acclimate.setting_faults import fault_sentence, user_keys
from acclimate.settings import Settings, one_line
from acclimate.yaml12 import read_value, read_yaml, write_scalar

HEADER = "# All settings of this run; `acclimate run --recipe` reads them back."
"""The first line of a recipe that acclimate wrote."""

_TIME = {"fine_tune": 5, "distill": 3, "prune": 2, "quantize": 1, "compress": 6}
"""Parts of the time that the trainings get. A recovery after quantization is seldom needed."""
_SEARCHED = ("distill", "prune", "quantize")
"""Stages that `compress` searches over: a run has either the search or some of these."""
_PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Recipe(Settings):
    """All settings of a run. A section that is null is left out.

    Example:
        >>> recipe = Recipe.load(assignments=["fine_tune.epochs=5", "prune.ratio=0.2"])
        >>> recipe.fine_tune.epochs
        5
        >>> recipe.compress is None  # a stage that is named takes the place of the search
        True
    """

    name: str = "model"
    """Name of the run and of its model: letters, digits, dots, dashes and underscores."""
    seed: int = 0
    """Random seed of splits, order, augmentation, calibration and intervals."""
    data: Source = Source()
    """Where the images are."""
    clean: Clean = Clean()
    """Which images are left out, and how the rest is split."""
    inspect: Inspect | None = Inspect()
    """How probable label errors and outliers are found."""
    augment: Augment = Augment()
    """How training images are augmented."""
    model: Model = Model()
    """Which pretrained network is used."""
    probe: Probe = Probe()
    """How a linear head is fitted on frozen features."""
    fine_tune: FineTune | None = FineTune()
    """How the network is fine-tuned."""
    search: Search = Search()
    """Ranges of `acclimate fine-tune --trials`; `acclimate run` does not search."""
    compress: Compress | None = Compress()
    """How a smaller and faster model is searched; null if one of the next three is set."""
    distill: Distill | None = None
    """How a student is trained on the outputs of the fine-tuned model, without a search."""
    prune: Prune | None = None
    """How channels are removed, without a search."""
    quantize: Quantize | None = None
    """How the model is quantized to 8 bits, without a search."""
    export: Export = Export()
    """How the ONNX file is checked."""
    evaluate: Evaluate = Evaluate()
    """How models are evaluated."""
    compare: Compare = Compare()
    """When a model counts as better, or as good."""
    registry: Register | None = Register()
    """Where the finished model is registered as a signed version."""

    @model_validator(mode="before")
    @classmethod
    def _search_or_stages(cls, values: Any) -> Any:  # noqa: ANN401 - not validated yet
        """A recipe that names stages of compression has them in place of the search."""
        if not isinstance(values, Mapping):
            return values
        named = [name for name in _SEARCHED if values.get(name) is not None]
        if not named:
            return values
        if values.get("compress") is not None:
            raise ValueError(
                f"compress and {named[0]} are both set, but compress searches over "
                f"{', '.join(_SEARCHED)}: leave one of them out"
            )
        return {**values, "compress": None}

    @checked
    def section(self, name: str) -> Settings:
        """The settings of a stage; the defaults if its section is null.

        Args:
            name: Of the section.

        Returns:
            The settings.

        Raises:
            RecipeError: There is no such section.

        Example:
            >>> Recipe().section("distill").method
            'soft'
        """
        if name not in SECTIONS:
            raise RecipeError(f"there is no section {name!r}. {near_names(name, SECTIONS)}")
        found = getattr(self, name)
        return cast("Settings", found if found is not None else SECTIONS[name]())

    def to_yaml(self) -> str:
        """The recipe as YAML, with the meaning of each setting."""
        lines = [HEADER]
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Settings):
                lines += ["", f"# {field.description}", f"{name}:"]
                lines += [f"  {line}" for line in _section_lines(value)]
            else:
                lines.append(f"{name}: {write_scalar(value)}  # {field.description}")
        return "\n".join(lines) + "\n"

    @checked
    def limited(self, *, epochs: int | None = None, max_minutes: float | None = None) -> Self:
        """The same recipe with all trainings limited.

        Args:
            epochs: Passes over the training images in every training.
            max_minutes: Time for all trainings together; each gets a part.

        Returns:
            The recipe. Sections that are null stay so.

        Raises:
            RecipeError: Both limits are given.

        Example:
            >>> Recipe().limited(epochs=3).compress.epochs
            3
        """
        if epochs is not None and max_minutes is not None:
            raise RecipeError("epochs and max_minutes are both set: give one of them.")
        parts = {name: part for name, part in _TIME.items() if getattr(self, name) is not None}
        fields: dict[str, Any] = {}
        for name, part in parts.items():
            limits: dict[str, Any] = {"epochs": epochs, "max_minutes": None}
            if max_minutes is not None:
                minutes = max_minutes * part / sum(parts.values())
                limits = {"epochs": "auto", "max_minutes": round(minutes, 3)}
            fields[name] = getattr(self, name).model_copy(update=limits)
        limited = epochs is not None or max_minutes is not None
        return self.model_copy(update=fields) if limited else self

    @classmethod
    @checked
    def load(
        cls,
        path: AnyPath | None = None,
        *,
        assignments: Sequence[str] = (),
        section: str | None = None,
    ) -> Self:
        """Makes a recipe of the defaults, then a file, then assignments.

        Args:
            path: A recipe; paths in it start from its folder.
            assignments: "section.key=value", the value in YAML.
            section: The section of a key without one.

        Returns:
            The recipe.

        Raises:
            RecipeError: Keys or values are wrong; the message lists each with its place.
        """
        values: dict[str, Any] = {}
        places: dict[tuple[str, ...], str] = {}
        if path is not None:
            path = Path(path)
            values, places = read_yaml(path)
            _resolve_paths(values, path.parent)
        for text in assignments:
            _assign(values, places, text, section)
        if section is not None:
            _leave_out_others(values, section)
        return cast("Self", validated(cls, values, places, str(path) if path else None))


def _leave_out_others(values: dict[str, Any], section: str) -> None:
    """For a command of one stage, a run's recipe may have the search or the stage: both fit."""
    others = {"compress": _SEARCHED} | dict.fromkeys(_SEARCHED, ("compress",))
    for name in others.get(section, ()):
        if values.get(name) is not None:
            values[name] = None


def _sections() -> dict[str, type[Settings]]:
    found: dict[str, type[Settings]] = {}
    for name, field in Recipe.model_fields.items():
        kinds = typing.get_args(field.annotation) or (field.annotation,)
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, Settings):
                found[name] = kind
    return found


SECTIONS = _sections()
"""Name of each section to its settings class."""


def validated(
    kind: type[Any],
    values: Mapping[str, Any],
    places: Mapping[tuple[str, ...], str],
    file: str | None,
) -> Any:  # noqa: ANN401 - an instance of `kind`
    """Makes an instance of a settings class, or one error with all faults.

    Args:
        kind: The class.
        values: Nested values.
        places: The file and line of each path of keys.
        file: The file of keys without a place.

    Returns:
        The instance.

    Raises:
        RecipeError: One line for each fault.
    """
    faults: dict[str, None] = {}
    name = values.get("name")
    if kind is Recipe and isinstance(name, str) and not _PLACE.fullmatch(name):
        place = places.get(("name",), file)
        faults[
            f"{place + ': ' if place else ''}name {name!r} cannot name a run. "
            "Use letters, digits, dots, dashes and underscores, 64 at most."
        ] = None
    try:
        found = kind(**values)
    except ValidationError as error:
        seen: set[tuple[str, ...]] = set()
        for fault in error.errors():
            keys = user_keys(kind, fault["loc"])
            # A union reports an error for each of its members; the deepest says most.
            if any(known[: len(keys)] == keys for known in seen):
                continue
            seen.add(keys)
            place = _place(keys, places) or file
            faults[f"{place + ': ' if place else ''}{fault_sentence(kind, keys, fault)}"] = None
        raise RecipeError("\n".join(faults)) from error
    if faults:
        raise RecipeError("\n".join(faults))
    return found


def _place(keys: tuple[str, ...], places: Mapping[tuple[str, ...], str]) -> str | None:
    """The place of a path of keys: its own, that of an outer key, or that of an inner one."""
    for length in range(len(keys), 0, -1):
        if keys[:length] in places:
            return places[keys[:length]]
    return next((place for known, place in places.items() if known[: len(keys)] == keys), None)


def _assign(
    values: dict[str, Any],
    places: dict[tuple[str, ...], str],
    text: str,
    section: str | None,
) -> None:
    key, mark, raw = text.partition("=")
    if not mark or not key:
        raise RecipeError(
            f"{text!r} is not key=value.", where="--set", hint="Example: --set fine_tune.epochs=5."
        )
    words = key.strip().split(".")
    # Names of settings have underscores; names that the user chose (a domain) may have dashes.
    keys = (*(word.replace("-", "_") for word in words[:2]), *words[2:])
    if section is not None and (len(keys) == 1 or keys[0] not in Recipe.model_fields):
        keys = (section, *keys)
    try:
        value = read_value(raw)
    except (ValueError, RecursionError) as error:
        shown = raw if len(raw) <= 60 else f"{raw[:60]}…"
        raise RecipeError(f"value {shown!r} is not valid YAML.", where=f"--set {key}") from error
    inner = values
    for name in keys[:-1]:
        if not isinstance(inner.get(name), dict):
            inner[name] = {}
        inner = inner[name]
    inner[keys[-1]] = value
    places[keys] = f"--set {key.strip()}"


_PATHS = (("data", "path"), ("model", "weights"), ("registry", "store"), ("registry", "key"))


_PERHAPS_PATHS = (("model", "name"), ("distill", "student"))
_PERHAPS_PATH_LISTS = (("distill", "teachers"), ("inspect", "extra_models"))
"""A model may be a name or a folder; a folder starts with ./ or ../."""


def _resolve_paths(values: dict[str, Any], folder: Path) -> None:
    """Makes relative paths start from the folder of the recipe."""
    for section, key in (*_PATHS, *_PERHAPS_PATHS):
        inner = values.get(section)
        if isinstance(inner, dict) and isinstance(inner.get(key), str):
            inner[key] = _from(folder, inner[key], name_or_path=(section, key) in _PERHAPS_PATHS)
    for section, key in _PERHAPS_PATH_LISTS:
        inner = values.get(section)
        if isinstance(inner, dict) and isinstance(inner.get(key), list):
            inner[key] = [
                _from(folder, text, name_or_path=True) if isinstance(text, str) else text
                for text in inner[key]
            ]
    data = values.get("data")
    domains = data.get("test_domains") if isinstance(data, dict) else None
    if isinstance(domains, dict):
        for name, place in domains.items():
            if isinstance(place, str):
                domains[name] = str(folder / place)


def _from(folder: Path, text: str, *, name_or_path: bool) -> str:
    is_name = name_or_path and not text.startswith(("./", "../"))
    return text if is_name else str(folder / text)


def _section_lines(section: Settings) -> list[str]:
    lines = []
    for name, field in type(section).model_fields.items():
        value = write_scalar(getattr(section, name))
        lines.append(f"{name}: {value}  # {one_line(field.description)}")
    return lines
