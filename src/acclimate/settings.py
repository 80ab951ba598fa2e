"""What a section of a recipe is: typed, frozen, and refusing what it does not know."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from acclimate.errors import RecipeError, near_names

Auto = Literal["auto"]

Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(ge=0, lt=1)]
Points = Annotated[float, Field(ge=0, le=100)]
"""Percentage points of accuracy."""


_SHORT = {"lr": "learning_rate"}


class Settings(BaseModel):
    """A section of a recipe, the argument of a stage, and the rows of its help."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
    )

    RENAMED: ClassVar[Mapping[str, str]] = {}
    """Old names of settings and what they are called now; the old ones are refused."""


_Kind = TypeVar("_Kind", bound=Settings)


def from_keywords(kind: type[_Kind], fields: Mapping[str, Any]) -> _Kind:
    """Settings from keywords, as a person writes them in Python; `lr` means `learning_rate`.

    Args:
        kind: A section's class.
        fields: Name to value.

    Returns:
        The settings.

    Raises:
        RecipeError: A name or value is wrong; a wrong name is answered with the nearest one.
    """
    for short, long in _SHORT.items():
        if short in fields and long in fields:
            raise RecipeError(f"{short} and {long} are the same setting: give one of them.")
    full = {_SHORT.get(name, name): value for name, value in fields.items()}
    for name in full:
        if name not in kind.model_fields:
            raise RecipeError(f"{kind.__name__} has no setting {name!r}. {right_name(kind, name)}")
    try:
        return kind(**full)
    except ValidationError as error:
        # A union tells each of its members' complaints: the first says enough.
        faults = {
            e["loc"][0]: f"{e['msg'].lower().removeprefix('value error, ')}, got {e['input']!r}"
            for e in error.errors()[::-1]
        }
        told = "; ".join(f"{name} {fault}" for name, fault in faults.items())
        raise RecipeError(f"{told}.") from error


def right_name(kind: type[Settings], name: str) -> str:
    """A sentence that says which setting a wrong name stands for.

    Args:
        kind: A section's class.
        name: What the user wrote.

    Returns:
        The name that replaced an old one, the nearest names, or all names.
    """
    if name in kind.RENAMED:
        return f"It is now called {kind.RENAMED[name]!r}."
    return near_names(name, kind.model_fields)


def describe(settings: type[Settings]) -> list[tuple[str, str, str]]:
    """The settings as rows for a help text or a page of documentation.

    Args:
        settings: A section's class.

    Returns:
        Name, default and meaning of each setting, in order.
    """
    return [
        (name, _shown(field.get_default(call_default_factory=True)), one_line(field.description))
        for name, field in settings.model_fields.items()
    ]


def one_line(description: str | None) -> str:
    """A setting's meaning where a line's end would end it: in a table, in a comment."""
    return " ".join((description or "").split())


def json_schema(settings: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a section, for editors."""
    return TypeAdapter(settings).json_schema()


def _shown(value: object) -> str:
    return "" if value is None else str(value)
