"""The settings as tables for people: legal values, default and meaning of each."""

import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from acclimate.settings import Settings, one_line
from acclimate.yaml12 import write_scalar

_PLAIN = {str: "text", Path: "path", bool: "true, false", int: "integer", float: "number"}


class SettingHelp(NamedTuple):
    """One setting in words.

    Attributes:
        name: Of the setting.
        values: What may be given: words, a range, or a kind of value.
        default: In YAML; "" for a section.
        meaning: One line.
    """

    name: str
    values: str
    default: str
    meaning: str


def describe(settings: type[Settings]) -> list[SettingHelp]:
    """The settings as rows for a help text or a page of documentation.

    Args:
        settings: The class of the section.

    Returns:
        One row for each setting, in order.
    """
    rows = []
    for name, field in settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "" if isinstance(default, BaseModel) else _yaml(default)
        rows.append(SettingHelp(name, legal_values(field), shown, one_line(field.description)))
    return rows


def legal_values(field: FieldInfo) -> str:
    """What may be given for a setting.

    Args:
        field: Of a settings class.

    Returns:
        "auto, integer of 1 or more", "number from 0 to 1", "list of: quantize, prune" and so on.
    """
    return ", ".join(_values(field.annotation, field.metadata))


def _yaml(value: object) -> str:
    """A default in YAML; a path stays relative."""
    return str(value) if isinstance(value, Path) else write_scalar(value)


def _values(kind: Any, bounds: Sequence[object] = ()) -> list[str]:  # noqa: ANN401 - any annotation
    """The words, ranges or kinds that an annotation allows, words first."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _values(inner[0], [*inner[1:], *bounds])
    if origin is Literal:
        return [str(word) for word in inner]
    if origin in (typing.Union, types.UnionType):
        # A bound of the whole is one of each number in it.
        found = [value for member in inner for value in _values(member, bounds)]
        return sorted(found, key=lambda value: (value == "null", " " in value))
    if kind is types.NoneType:
        return ["null"]
    if origin in (tuple, list):
        return [_list(inner)]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return ["names with paths"]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return ["section"]
    return [_PLAIN[kind] + (_range(kind, bounds) if kind in (int, float) else "")]


def _list(inner: Sequence[Any]) -> str:
    item = ", ".join(_values(inner[0]))
    if inner[-1] is not Ellipsis:
        return f"list of {len(inner)}: {item}"
    return f"list of: {item}"


def _range(kind: type, bounds: Sequence[object]) -> str:
    """The bounds of a number in words, with a space before; "" if there are none."""
    known = {
        name: float(value)
        for bound in _flat(bounds)
        for name in ("ge", "gt", "le", "lt")
        if (value := getattr(bound, name, None)) is not None
    }
    if kind is int and known.get("gt") == 0:
        known = {"ge": 1.0} | {name: v for name, v in known.items() if name != "gt"}
    shown = {name: f"{value:g}" for name, value in known.items()}
    high = f" to {shown['le']}" if "le" in shown else ""
    high = f" to below {shown['lt']}" if "lt" in shown else high
    if "gt" in shown:
        return f" above {shown['gt']}{high.replace(' to', ', up to', 1)}"
    if "ge" not in shown:
        return high.replace(" to", " up to", 1)
    return f" from {shown['ge']}{high}" if high else f" of {shown['ge']} or more"


def _flat(bounds: Sequence[object]) -> list[object]:
    """Bounds that pydantic keeps together in one object, one by one."""
    return [one for bound in bounds for one in getattr(bound, "metadata", [bound]) or [bound]]
