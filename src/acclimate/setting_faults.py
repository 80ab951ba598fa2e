"""Faults in settings, in the user's words and not in those of pydantic."""

import re
import types
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from acclimate.settings import Settings, meant_name, right_name


def user_keys(kind: type[BaseModel], location: Sequence[int | str]) -> tuple[str, ...]:
    """The keys that the user wrote: pydantic adds the names of a union's members to the path.

    Args:
        kind: The outer settings class.
        location: The path of a fault, as pydantic has it.

    Returns:
        The path without these names.
    """
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


_IN_OUR_WORDS = {
    "missing": "is missing",
    "path_type": "must be a path",
    "dict_type": "must be a mapping (key: value)",
    "mapping_type": "must be a mapping (key: value)",
    "tuple_type": "must be a list",
    "too_short": "must not be empty",
    "model_type": "must be a section (key: value)",
    "model_attributes_type": "must be a section (key: value)",
}


def fault_sentence(kind: type[BaseModel], keys: tuple[str, ...], fault: Any) -> str:  # noqa: ANN401
    """What is wrong with a setting.

    Args:
        kind: The outer settings class.
        keys: The path to the setting; empty for a fault of the whole.
        fault: One of pydantic's errors.

    Returns:
        A sentence that begins with the setting's name.
    """
    name = ".".join(keys)
    if fault["type"] == "extra_forbidden":
        model: type[BaseModel] | None = kind
        for key in keys[:-1]:
            model = _inner_model(model, key) if model is not None else None
        known = model if model is not None and issubclass(model, Settings) else Settings
        elsewhere = settings_meant(kind, keys[-1])
        here = keys[-1] in known.RENAMED or meant_name(keys[-1]) in known.model_fields
        if elsewhere and not here:
            return f"{name} is not a setting. Did you mean {elsewhere[0]!r}?"
        return f"{name} is not a setting. {right_name(known, keys[-1])}"
    message = _IN_OUR_WORDS.get(str(fault["type"])) or str(fault["msg"])
    message = message.replace("Input should be", "must be").replace("Value error, ", "")
    words = _words(kind, keys)
    if words and fault["type"] in ("int_parsing", "float_parsing"):
        message = f"{message.split(',', 1)[0]}, or {' or '.join(words)}"
    elif words and fault["type"] == "literal_error":
        message = f"must be {', '.join(words[:-1])}{' or ' if words[1:] else ''}{words[-1]}"
    shown = fault.get("input")
    shown = f" Got {shown!r}." if not isinstance(shown, (dict, BaseModel)) else ""
    return f"{name} {message}.{shown}".lstrip()


def settings_meant(kind: type[BaseModel], word: str) -> list[str]:
    """Where the sections of a recipe have a setting that a word may mean.

    Args:
        kind: The recipe.
        word: What the user wrote, such as "lr".

    Returns:
        "fine_tune.learning_rate" and the like, those of fine-tuning first.
    """
    meant = meant_name(word)
    found = [
        f"{section}.{meant}"
        for section in kind.model_fields
        if meant in getattr(_inner_model(kind, section), "model_fields", ())
    ]
    return sorted(found, key=lambda place: not place.startswith("fine_tune."))


def _words(kind: type[BaseModel], keys: tuple[str, ...]) -> list[str]:
    """The words, in quotes, that a setting takes if "auto" is one of them; otherwise none."""
    if not keys:
        return []
    model: type[BaseModel] | None = kind
    for key in keys[:-1]:
        model = _inner_model(model, key) if model is not None else None
    field = model.model_fields.get(keys[-1]) if model is not None else None
    words = re.findall(r"'[\w-]+'", str(field.annotation)) if field is not None else []
    return words if "'auto'" in words else []
