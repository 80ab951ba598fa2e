"""The recipe: one file that says everything a run was told.

Read as YAML 1.2: with PyYAML's own rules `1e-4` would be a string and a class called `no` would
be false. Every fault is reported with its line, all at once.
"""

import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import yaml
from pydantic import BaseModel, ValidationError

from acclimate.augmentation.settings import Augment
from acclimate.cleaning.settings import Clean
from acclimate.compression.settings import Prune, Quantize
from acclimate.data.settings import Source
from acclimate.errors import DataError, RecipeError, near_names
from acclimate.evaluation.settings import Compare, Evaluate
from acclimate.features.settings import Probe
from acclimate.files import read_bounded
from acclimate.models.settings import Export, Model
from acclimate.registry.settings import Register
from acclimate.settings import Settings
from acclimate.training.settings import Distill, FineTune

MAX_BYTES = 1 << 20
_PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Recipe(Settings):
    """Everything a run is told. A section set to null is left out."""

    name: str = "model"
    """Of the run and of the model it makes: letters, digits, dots, dashes, underscores."""
    seed: int = 0
    """Governs everything random: splits, order, augmentation, calibration, intervals."""
    data: Source = Source()
    """Where the images are."""
    clean: Clean = Clean()
    """Which images are left out, and how the rest is split."""
    augment: Augment = Augment()
    """What is done to training images."""
    model: Model = Model()
    """Which pretrained network is fitted."""
    probe: Probe = Probe()
    """How a linear head is fitted first."""
    fine_tune: FineTune | None = FineTune()
    """How all layers learn the classes."""
    distill: Distill | None = Distill()
    """How a student learns from the fine-tuned model."""
    prune: Prune | None = Prune()
    """How channels are taken out."""
    quantize: Quantize | None = Quantize()
    """How the model becomes 8-bit."""
    export: Export = Export()
    """How the ONNX file is checked."""
    evaluate: Evaluate = Evaluate()
    """How the models are measured."""
    compare: Compare = Compare()
    """When one of them counts as better, or as good."""
    registry: Register | None = Register()
    """Where the finished model is kept as a signed version."""

    def to_yaml(self) -> str:
        """The recipe written out in full, with what each setting means."""
        lines = ["# Everything this run was told; `acclimate run --recipe` reads it back."]
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Settings):
                lines += ["", f"# {field.description}", f"{name}:"]
                lines += [f"  {line}" for line in _section_lines(value)]
            else:
                lines.append(f"{name}: {_scalar(value)}  # {field.description}")
        return "\n".join(lines) + "\n"

    @classmethod
    def load(
        cls,
        path: Path | None = None,
        *,
        assignments: Sequence[str] = (),
        section: str | None = None,
    ) -> Self:
        """Defaults, then a file, then assignments.

        Args:
            path: A recipe; paths in it start from its folder.
            assignments: "section.key=value", the value in YAML.
            section: Where a key without a section belongs.

        Returns:
            The recipe.

        Raises:
            RecipeError: A key or value is wrong; all faults are named, each with its place.
        """
        values: dict[str, Any] = {}
        places: dict[tuple[str, ...], str] = {}
        if path is not None:
            values, places = read_yaml(path)
        for text in assignments:
            _assign(values, places, text, section)
        return cast("Self", validated(cls, values, places, str(path) if path else None))


class SafeLoader12(yaml.SafeLoader):
    """YAML 1.2's core schema for plain scalars."""


SafeLoader12.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    SafeLoader12.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first)
    )


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(node.value)
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


SafeLoader12.add_constructor("tag:yaml.org,2002:int", _int)
SafeLoader12.add_constructor(
    "tag:yaml.org,2002:float",
    lambda loader, node: float(
        str(node.value).lower().replace(".inf", "inf").replace(".nan", "nan")
    ),
)


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[tuple[str, ...], str]]:
    """A YAML file's values, and the line of each key.

    Args:
        path: The file.

    Returns:
        Nested values, and "file:line" of each path of keys.

    Raises:
        RecipeError: The file is missing, too large, no YAML mapping, or uses aliases or tags.
    """
    try:
        text = read_bounded(path, MAX_BYTES).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise RecipeError("no such recipe.", where=path) from error
    except (OSError, UnicodeDecodeError, DataError) as error:
        raise RecipeError("recipe cannot be read as text.", where=path) from error
    try:
        for token in yaml.scan(text):
            # An alias can unfold to gigabytes, a tag can ask for any type: a recipe needs neither.
            if isinstance(token, (yaml.AliasToken, yaml.AnchorToken, yaml.TagToken)):
                line = token.start_mark.line + 1
                raise RecipeError(
                    "anchors, aliases and tags are not allowed.", where=f"{path}:{line}"
                )
        node = yaml.compose(text, SafeLoader12)
        values = yaml.load(text, SafeLoader12)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise RecipeError(f"not valid YAML ({error.problem}).", where=where) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(f"not valid YAML ({error}).", where=path) from error
    if values is None:
        return {}, {}
    if not isinstance(values, dict):
        raise RecipeError("a recipe is a mapping of sections.", where=path)
    places: dict[tuple[str, ...], str] = {}
    _find_places(node, (), path, places)
    _resolve_paths(values, path.parent)
    return values, places


def validated(
    kind: type[Any],
    values: Mapping[str, Any],
    places: Mapping[tuple[str, ...], str],
    file: str | None,
) -> Any:  # noqa: ANN401 - an instance of `kind`
    """An instance of a settings class, or every fault in one error.

    Args:
        kind: The class.
        values: Nested.
        places: Where each path of keys was written.
        file: Where keys without a place were written.

    Returns:
        The instance.

    Raises:
        RecipeError: One line a fault.
    """
    try:
        found = kind(**values)
    except ValidationError as error:
        faults: dict[str, None] = {}
        seen: set[tuple[str, ...]] = set()
        for fault in error.errors():
            keys = _real_keys(kind, fault["loc"])
            if keys in seen:  # a union tells each of its members' complaints
                continue
            seen.add(keys)
            place = places.get(keys) or next(
                (places[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in places), file
            )
            faults[f"{place + ': ' if place else ''}{_sentence(kind, keys, fault)}"] = None
        raise RecipeError("\n".join(faults)) from error
    name = getattr(found, "name", None)
    if kind is Recipe and not _PLACE.fullmatch(name or ""):
        raise RecipeError(
            f"name {name!r} cannot name a run.",
            where=places.get(("name",), file),
            hint="Use letters, digits, dots, dashes and underscores, 64 at most.",
        )
    return found


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
    keys = tuple(key.strip().replace("-", "_").split("."))
    if section is not None and (len(keys) == 1 or keys[0] not in Recipe.model_fields):
        keys = (section, *keys)
    try:
        value = yaml.load(raw, SafeLoader12)
    except yaml.YAMLError as error:
        raise RecipeError(f"value {raw!r} is not valid YAML.", where=f"--set {key}") from error
    inner = values
    for name in keys[:-1]:
        if not isinstance(inner.get(name), dict):
            inner[name] = {}
        inner = inner[name]
    inner[keys[-1]] = value
    places[keys] = f"--set {key.strip()}"


def _find_places(
    node: yaml.Node | None, keys: tuple[str, ...], path: Path, places: dict[tuple[str, ...], str]
) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        inner = (*keys, str(key.value))
        where = f"{path}:{key.start_mark.line + 1}"
        if inner in places:
            raise RecipeError(f"{'.'.join(inner)} is set twice.", where=where)
        places[inner] = where
        _find_places(value, inner, path, places)


_PATHS = (("data", "path"), ("model", "weights"), ("registry", "store"), ("registry", "key"))


def _resolve_paths(values: dict[str, Any], folder: Path) -> None:
    """Paths in a recipe start from its own folder: it can be run from anywhere."""
    for section, key in _PATHS:
        inner = values.get(section)
        if isinstance(inner, dict) and isinstance(inner.get(key), str):
            inner[key] = str(folder / inner[key])
    data = values.get("data")
    domains = data.get("test_domains") if isinstance(data, dict) else None
    if isinstance(domains, dict):
        for name, place in domains.items():
            if isinstance(place, str):
                domains[name] = str(folder / place)


def _real_keys(kind: type[BaseModel], location: Sequence[int | str]) -> tuple[str, ...]:
    """The keys a person wrote: pydantic adds the names of a union's members to the path."""
    keys: list[str] = []
    model: type[BaseModel] | None = kind
    for part in location:
        if model is not None:
            if keys and str(part) not in model.model_fields and part == model.__name__:
                continue
            keys.append(str(part))
            model = _inner_model(model, str(part))
        elif isinstance(part, int):
            keys.append(str(part))
    return tuple(keys)


def _inner_model(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    field = model.model_fields.get(name)
    if field is None:
        return None
    kind = field.annotation
    members = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    for member in members:
        if isinstance(member, type) and issubclass(member, BaseModel):
            return member
    return None


def _sentence(kind: type[BaseModel], keys: tuple[str, ...], fault: Any) -> str:  # noqa: ANN401
    name = ".".join(keys)
    if fault["type"] == "extra_forbidden":
        model: type[BaseModel] | None = kind
        for key in keys[:-1]:
            model = _inner_model(model, key) if model is not None else None
        known = model.model_fields if model is not None else ()
        return f"{name} is not a setting. {near_names(keys[-1], known)}"
    message = str(fault["msg"]).replace("Input should be", "must be").replace("Value error, ", "")
    if fault["type"] in ("int_parsing", "float_parsing", "literal_error") and _takes_auto(
        kind, keys
    ):
        message = message.split(",", 1)[0]
        message += "" if "'auto'" in message else ", or 'auto'"
    shown = fault.get("input")
    shown = f" Got {shown!r}." if not isinstance(shown, (dict, BaseModel)) else ""
    return f"{name} {message}.{shown}"


def _takes_auto(kind: type[BaseModel], keys: tuple[str, ...]) -> bool:
    model: type[BaseModel] | None = kind
    for key in keys[:-1]:
        model = _inner_model(model, key) if model is not None else None
    field = model.model_fields.get(keys[-1]) if model is not None else None
    return field is not None and "'auto'" in str(field.annotation)


def _section_lines(section: Settings) -> list[str]:
    lines = []
    for name, field in type(section).model_fields.items():
        lines.append(f"{name}: {_scalar(getattr(section, name))}  # {field.description}")
    return lines


def _scalar(value: object) -> str:
    """One value in YAML 1.2, on one line."""
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(_scalar(v) for v in value)}]"
    if isinstance(value, dict):
        inner = ", ".join(f"{_scalar(str(k))}: {_scalar(v)}" for k, v in value.items())
        return f"{{{inner}}}"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    # Absolute: the written recipe stands in another folder than the one it was started from.
    text = str(value.absolute()) if isinstance(value, Path) else str(value)
    safe = re.fullmatch(r"[A-Za-z_./][\w./-]*", text) and text.lower() not in _WORDS
    return text if safe else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
