"""Sections of a recipe: typed, frozen, and strict about unknown names."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from acclimate.errors import RecipeError, near_names

Auto = Literal["auto"]

Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(ge=0, lt=1)]
Points = Annotated[float, Field(ge=0, le=100)]
"""Percentage points of accuracy."""


SHORT = {"lr": "learning_rate"}
"""Short names that Python accepts for settings."""


class Settings(BaseModel):
    """A section of a recipe: the settings of a stage, with a help text for each."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
    )

    RENAMED: ClassVar[Mapping[str, str]] = {}
    """Old name of a setting to its new name. The old one is an error that names the new one."""


_Kind = TypeVar("_Kind", bound=Settings)


def from_keywords(kind: type[_Kind], fields: Mapping[str, Any]) -> _Kind:
    """Makes settings from keywords; `lr` means `learning_rate`.

    Args:
        kind: The class of the section.
        fields: Name to value.

    Returns:
        The settings.

    Raises:
        RecipeError: A name or value is wrong; the message names the nearest setting.
    """
    for short, long in SHORT.items():
        if short in fields and long in fields:
            raise RecipeError(f"{short} and {long} are the same setting: give one of them.")
    full = {SHORT.get(name, name): value for name, value in fields.items()}
    for name in full:
        if name not in kind.model_fields:
            raise RecipeError(f"{kind.__name__} has no setting {name!r}. {right_name(kind, name)}")
    try:
        return kind(**full)
    except ValidationError as error:
        # A union reports an error for each of its members: the first is enough.
        faults = {
            e["loc"][0]: f"{e['msg'].lower().removeprefix('value error, ')}, got {e['input']!r}"
            for e in error.errors()[::-1]
        }
        message = "; ".join(f"{name} {fault}" for name, fault in faults.items())
        raise RecipeError(f"{message}.") from error


def right_name(kind: type[Settings], name: str) -> str:
    """A sentence that says which setting a wrong name may mean.

    Args:
        kind: The class of the section.
        name: What the user wrote.

    Returns:
        The new name of an old one, the nearest names, or all names.
    """
    if name in kind.RENAMED:
        return f"It is now called {kind.RENAMED[name]!r}."
    return near_names(name, kind.model_fields)


def describe(settings: type[Settings]) -> list[tuple[str, str, str]]:
    """The settings as rows for a help text or a page of documentation.

    Args:
        settings: The class of the section.

    Returns:
        Name, default and meaning of each setting, in order.
    """
    return [
        (name, _shown(field.get_default(call_default_factory=True)), one_line(field.description))
        for name, field in settings.model_fields.items()
    ]


def one_line(description: str | None) -> str:
    """The meaning of a setting on one line, for a table or a comment."""
    return " ".join((description or "").split())


def json_schema(settings: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a section, for editors."""
    return TypeAdapter(settings).json_schema()


def _shown(value: object) -> str:
    return "" if value is None else str(value)
