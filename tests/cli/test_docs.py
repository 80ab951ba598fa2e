"""The docs hold: every command and every Python block of each page runs.

Each page is a test of its own, in a folder of its own. What a page uses and another page makes,
such as `leaf.model`, is made once for all pages, by the command of the docs that makes it. The
page of the probe runs on EfficientNet-Lite0, the others on a tiny network in its place.
"""

import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from acclimate.data.sample_data import write_digits
from acclimate.models.pretrained import PRETRAINED
from kit import made_once, tiny_pretrained

ROOT = Path(__file__).parents[2]
REAL = "docs/probe.md"
PAGES = (
    "README.md", "docs/run.md", "docs/clean.md", "docs/inspect.md", "docs/data.md",
    "docs/augment.md", "docs/probe.md",
    "docs/fine-tune.md", "docs/distill.md", "docs/prune.md", "docs/quantize.md",
    "docs/compress.md", "docs/evaluate.md", "docs/compare.md", "docs/export.md", "docs/predict.md",
    "docs/models.md", "docs/shell.md", "docs/notebooks.md", "docs/containers.md",
    "docs/python.md", "docs/recipe.md", "docs/errors.md", "docs/design.md",
)  # fmt: skip


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[list[str]]:
    lines = [line for block in blocks(page, "console") for line in block.splitlines()]
    return [shlex.split(line[2:], comments=True) for line in lines if line.startswith("$ ")]


def test_every_page_is_walked():
    there = {str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md")} | {"README.md"}
    assert there == set(PAGES)


def test_the_printed_pages_are_those_of_the_code():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import print_reference
    finally:
        sys.path.pop(0)
    assert (ROOT / "docs/recipe.md").read_text() == print_reference.recipe_page()
    assert (ROOT / "docs/errors.md").read_text() == print_reference.errors_page()
    for page in (ROOT / "docs/design.md", ROOT / "README.md"):
        assert page.read_text() == print_reference.printed(page), page


def test_every_make_target_of_the_docs_is_there():
    makefile = (ROOT / "Makefile").read_text()
    targets = {c[1] for page in PAGES for c in commands(page) if c[0] == "make"}
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@dataclass(frozen=True)
class Step:
    """A command or a Python block of a page."""

    page: str
    text: str
    words: tuple[str, ...] = ()

    @property
    def output(self) -> str | None:
        """The file or folder that a command makes, to be used by later ones."""
        if self.words[1:2] == ("run",):
            return "acclimate-store"
        return self.words[self.words.index("-o") + 1] if "-o" in self.words else None

    def uses(self, name: str) -> bool:
        """Whether a file of this name must be there first."""
        if name == "acclimate-store":
            return "acclimate models" in self.text or "models:" in self.text
        inputs = self.text.replace(f"-o {self.output}", "")
        return re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w-])", inputs) is not None


def steps(page: str) -> list[Step]:
    """Of one page, in their order; all its Python blocks are one program, which comes last."""
    found = [Step(page, shlex.join(words), tuple(words)) for words in commands(page)]
    code = "\n".join(blocks(page, "python"))
    return [
        *(step for step in found if step.words[0] == "acclimate"),
        *([Step(page, code)] * bool(code)),
    ]


STEPS = {page: steps(page) for page in PAGES}
MAKERS = {
    step.output: step
    for page in reversed(PAGES)
    for step in reversed(STEPS[page])
    if step.words and step.output and "--force" not in step.words
}
"""Name of a result to the first command that makes it."""


class Desk:
    """A reader's folder: `photos/<class>/*.png`, `more/<class>/*.png`, one `photo.jpg`, and an ONNX
    file that acclimate did not write. What other pages make comes when it is needed."""

    def __init__(self, folder: Path, shell: Any, shared: Path) -> None:
        self.folder, self.shell, self.shared = folder, shell, shared
        shutil.copytree(made_once(shared / "docs", fill_desk), folder, dirs_exist_ok=True)

    def run(self, step: Step) -> None:
        """Runs a command here, after what it needs."""
        for name in MAKERS:
            if step.uses(name) and not (self.folder / name).exists():
                self.fetch(name)
        if not step.words:
            exec(compile(step.text, step.page, "exec"), {})
            return
        env = {
            "XDG_CACHE_HOME": str(self.shared / "cache"),
            "XDG_CONFIG_HOME": str(self.shared / "docs-config"),
        }
        done = self.shell.start(
            *step.words[1:], cwd=self.folder, env=env, tiny=step.page != REAL
        ).wait(400)
        said = f"{step.page}: {step.text}\n{done.out[-2000:]}{done.err[-2000:]}"
        assert done.code == 0, said

    def fetch(self, name: str) -> None:
        """Copies what a command of another page makes."""

        made = made_once(
            self.shared / f"docs {name}",
            lambda folder: Desk(folder, self.shell, self.shared).run(MAKERS[name]),
        )
        shutil.copytree(made, self.folder, dirs_exist_ok=True)


def fill_desk(folder: Path) -> None:
    write_digits(folder / "digits", per_class=10)
    for digit in "014789":
        place = folder / ("photos" if digit in "0147" else "more") / digit
        place.mkdir(parents=True)
        for path in sorted((folder / "digits").glob(f"*/{digit}/*.png")):
            path.rename(place / path.name)
    shutil.rmtree(folder / "digits")
    Image.open(next((folder / "photos").glob("*/*.png"))).save(folder / "photo.jpg")
    write_production(folder / "production.onnx")


def write_production(path: Path) -> None:
    """A network of four classes that somebody else exported, and its description from the docs."""
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("input", [1, 3, 32, 32]), ("output", [1, 4]))
    ]
    weights = np.random.default_rng(0).normal(size=(3 * 32 * 32, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["output"]),
    ]
    known = [onnx.numpy_helper.from_array(weights, "weights")]
    body = helper.make_graph(nodes, "theirs", ends[:1], ends[1:], known)
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(body, opset_imports=[opset], ir_version=10), path)
    (description,) = blocks("docs/export.md", "yaml")
    path.with_name(f"{path.name}.yaml").write_text(description)


def test_the_docs_hold_commands_on_most_pages():
    assert sum(len(some) for some in STEPS.values()) >= 60
    assert sum(bool(some) for some in STEPS.values()) == 19


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:PyTorch is imported already")  # by the tests
@pytest.mark.parametrize("page", [page for page in PAGES if STEPS[page]])
def test_every_command_and_python_block_runs(page, shell, shared, tmp_path, monkeypatch):
    if page != REAL:
        monkeypatch.setitem(PRETRAINED, "packaged", tiny_pretrained)
    monkeypatch.chdir(tmp_path)
    desk = Desk(tmp_path, shell, shared)
    elsewhere = [step for name in PAGES if name != page for step in STEPS[name]]
    for step in STEPS[page]:
        maker = MAKERS.get(step.output)
        if maker and maker.text == step.text and any(s.uses(step.output) for s in elsewhere):
            desk.fetch(step.output)  # made once, by this very command
        else:
            desk.run(step)


def test_every_link_between_pages_leads_somewhere():
    found = 0
    for page in PAGES:
        text = (ROOT / page).read_text()
        for target in re.findall(r"\]\(([^)#\s]+)\)", text):
            if not target.startswith("http"):
                found += 1
                assert (ROOT / page).parent.joinpath(target).exists(), f"{page}: {target}"
    assert found > 5
