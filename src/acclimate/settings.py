"""What a section of a recipe is: typed, frozen, and refusing what it does not know."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Auto = Literal["auto"]

Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(ge=0, lt=1)]
Points = Annotated[float, Field(ge=0, le=100)]
"""Percentage points of accuracy."""


class Settings(BaseModel):
    """A section of a recipe, the argument of a stage, and the rows of its help."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
    )


def describe(settings: type[Settings]) -> list[tuple[str, str, str]]:
    """The settings as rows for a help text or a page of documentation.

    Args:
        settings: A section's class.

    Returns:
        Name, default and meaning of each setting, in order.
    """
    return [
        (name, _shown(field.get_default(call_default_factory=True)), field.description or "")
        for name, field in settings.model_fields.items()
    ]


def json_schema(settings: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a section, for editors."""
    return TypeAdapter(settings).json_schema()


def _shown(value: object) -> str:
    return "" if value is None else str(value)
