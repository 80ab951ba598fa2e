"""Prints recipe.md and errors.md from the code: `python docs/print_reference.py`."""

import inspect
from pathlib import Path

from acclimate import errors
from acclimate.recipe import Recipe
from acclimate.settings import Settings, describe


def recipe_page() -> str:
    lines = [
        "# The recipe",
        "",
        "Printed from the code. One YAML 1.2 file, a section a stage; what is left out keeps",
        "its default, `null` leaves a stage out, an unknown key is refused. Anchors, aliases and",
        "tags are not allowed. Order: defaults, then the file, then `--set`.",
    ]
    top = Recipe()
    lines += ["", "| setting | default | meaning |", "| --- | --- | --- |"]
    sections = []
    for name, default, meaning in describe(Recipe):
        if isinstance(getattr(top, name), Settings):
            sections.append((name, meaning))
        else:
            lines.append(f"| `{name}` | {default} | {meaning} |")
    for name, meaning in sections:
        lines += ["", f"## {name}", "", meaning, ""]
        lines += ["| setting | default | meaning |", "| --- | --- | --- |"]
        lines += [f"| `{n}` | {d} | {m} |" for n, d, m in describe(type(getattr(top, name)))]
    return "\n".join(lines) + "\n"


def errors_page() -> str:
    tree = inspect.getdoc(errors)
    assert tree is not None
    return f"# Errors\n\nPrinted from the code.\n\n```\n{tree}\n```\n"


def main() -> None:
    folder = Path(__file__).parent
    (folder / "recipe.md").write_text(recipe_page())
    (folder / "errors.md").write_text(errors_page())


if __name__ == "__main__":
    main()
