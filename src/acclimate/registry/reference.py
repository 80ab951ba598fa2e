"""How a registered model is named: "models:leaf@champion"."""

PREFIX = "models:"


def split_reference(text: str) -> tuple[str, str]:
    """Name and reference of "models:leaf@champion" or "models:leaf/3"; "latest" when left out."""
    plain = text.removeprefix(PREFIX)
    for mark in ("@", "/"):
        if mark in plain:
            name, reference = plain.split(mark, 1)
            return name, reference
    return plain, "latest"
