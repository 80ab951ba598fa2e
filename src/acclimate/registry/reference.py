"""References to registered models, such as "models:leaf@champion"."""

PREFIX = "models:"


def split_reference(text: str) -> tuple[str, str]:
    """Splits "models:leaf@champion" or "models:leaf/3"; without a reference it is "latest"."""
    plain = text.removeprefix(PREFIX)
    for mark in ("@", "/"):
        if mark in plain:
            name, reference = plain.split(mark, 1)
            return name, reference
    return plain, "latest"
