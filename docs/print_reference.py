"""Prints what the docs take from the code: `python docs/print_reference.py`.

recipe.md and errors.md are printed whole; in both READMEs and design.md only the parts between
`<!-- printed: NAME -->` and `<!-- end -->`.
"""

import ast
import inspect
import re
import tomllib
from pathlib import Path

import acclimate
from acclimate import errors
from acclimate.recipe import SECTIONS, Recipe
from acclimate.setting_help import describe

ROOT = Path(__file__).parents[1]
PACKAGE = Path(acclimate.__file__).parent
_PRINTED = re.compile(r"(<!-- printed: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def recipe_page() -> str:
    lines = [
        "# The recipe",
        "",
        "Printed from the code. A recipe is one YAML 1.2 file with a section for each stage. A",
        "setting that is left out keeps its default, `null` leaves a stage out, and an unknown",
        "key is an error. Anchors, aliases and tags are not allowed. Defaults come first, then",
        "the file, then `--set`.",
    ]
    top = Recipe()
    head = ["| setting | values | default | meaning |", "| --- | --- | --- | --- |"]
    lines += ["", *head]
    sections = []
    for name, values, default, meaning in describe(Recipe):
        if name in SECTIONS:
            off = getattr(top, name) is None
            sections.append((name, f"{meaning} Off by default in a run." if off else meaning))
        else:
            lines.append(f"| `{name}` | {values} | {default} | {meaning} |")
    for name, meaning in sections:
        lines += ["", f"## {name}", "", meaning, "", *head]
        lines += [f"| `{n}` | {v} | {d} | {m} |" for n, v, d, m in describe(SECTIONS[name])]
    return "\n".join(lines) + "\n"


def errors_page() -> str:
    tree = inspect.getdoc(errors)
    assert tree is not None
    return f"# Errors\n\nPrinted from the code.\n\n```\n{tree}\n```\n"


def floors() -> list[list[str]]:
    """The floors of the import contract, from top to bottom: the names on each."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    return [re.findall(r"acclimate\.(\w+)", layer) for layer in contract["layers"]]


def _summary(module: Path) -> str:
    docstring = ast.get_docstring(ast.parse(module.read_text()))
    assert docstring is not None
    return docstring.splitlines()[0]


def rooms() -> str:
    """The packages, one a line with the first line of its docstring, from top to bottom."""
    lines = []
    for name in (name for floor in floors() for name in floor if (PACKAGE / name).is_dir()):
        for place in sorted((PACKAGE / name).rglob("__init__.py")):
            depth = len(place.relative_to(PACKAGE).parts) - 2
            lines.append((f"{'  ' * depth}{place.parent.name}/", _summary(place)))
    width = max(len(name) for name, _ in lines)
    return "```\n" + "".join(f"{n:{width}}  {told}\n" for n, told in lines) + "```\n"


def floor_table() -> str:
    """The import contract as a table."""
    found = floors()
    lines = ["| floor | packages and modules |", "| --- | --- |"]
    for number, names in zip(range(len(found) - 1, -1, -1), found, strict=True):
        lines.append(f"| {number} | {', '.join(f'`{name}`' for name in names)} |")
    return "\n".join(lines) + "\n"


def printed(page: Path) -> str:
    """A page of the docs with its printed parts as the code has them now."""
    parts = {"rooms": rooms, "floors": floor_table}
    return _PRINTED.sub(lambda m: f"{m[1]}\n{parts[m[2]]()}\n{m[3]}", page.read_text())


def main() -> None:
    folder = Path(__file__).parent
    (folder / "recipe.md").write_text(recipe_page())
    (folder / "errors.md").write_text(errors_page())
    for page in (folder / "design.md", ROOT / "README.md", ROOT / "README.zh-CN.md"):
        page.write_text(printed(page))


if __name__ == "__main__":
    main()
