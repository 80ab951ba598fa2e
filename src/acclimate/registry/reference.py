"""References to registered models, such as "models:leaf@champion"."""

import re

from acclimate.errors import ModelFileError

PREFIX = "models:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_name(name: str) -> None:
    """Raises a ModelFileError for what cannot be the name of a model, such as "../leaf"."""
    if not _NAME.fullmatch(name):
        raise ModelFileError(
            f"{name!r} is not a valid model name.",
            hint="Use letters, digits, dots, dashes and underscores, 64 at most.",
        )


def split_reference(text: str) -> tuple[str, str]:
    """Splits "models:leaf@champion" or "models:leaf/3"; without a reference it is "latest"."""
    plain = text.removeprefix(PREFIX)
    for mark in ("@", "/"):
        if mark in plain:
            name, reference = plain.split(mark, 1)
            return name, reference
    return plain, "latest"
