"""Renders templates. Text from the user's files is escaped."""

from functools import cache
from typing import Any

import jinja2


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("acclimate.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: Any) -> str:  # noqa: ANN401 - any value a template can show
    """Renders one template.

    Args:
        template: Name of its file.
        **values: All variables that it uses.

    Returns:
        HTML.
    """
    return _environment().get_template(template).render(**values)
