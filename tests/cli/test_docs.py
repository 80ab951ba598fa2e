"""The docs hold: every command and Python block runs, in the order of the pages, in one folder."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from acclimate.data.sample_data import write_digits

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md", "docs/run.md", "docs/clean.md", "docs/inspect.md", "docs/data.md",
    "docs/augment.md", "docs/probe.md",
    "docs/fine-tune.md", "docs/distill.md", "docs/prune.md", "docs/quantize.md",
    "docs/evaluate.md", "docs/compare.md", "docs/export.md", "docs/predict.md", "docs/models.md",
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


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder: `photos/<class>/*.png`, `more/<class>/*.png`, one `photo.jpg`, and an ONNX
    file that acclimate did not write."""
    folder = tmp_path_factory.mktemp("desk")
    write_digits(folder / "digits", per_class=10)
    for digit in "014789":
        place = folder / ("photos" if digit in "0147" else "more") / digit
        place.mkdir(parents=True)
        for path in sorted((folder / "digits").glob(f"*/{digit}/*.png")):
            path.rename(place / path.name)
    Image.open(next((folder / "photos").glob("*/*.png"))).save(folder / "photo.jpg")
    write_production(folder / "production.onnx")
    return folder


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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_command_and_python_block_runs(desk, shell, monkeypatch):
    monkeypatch.chdir(desk)
    done = 0
    for page in PAGES:
        for words in commands(page):
            if words[0] != "acclimate":
                continue
            result = shell.start(*words[1:], cwd=desk).wait(400)
            told = f"{page}: {shlex.join(words)}\n{result.out[-2000:]}{result.err[-2000:]}"
            assert result.code == 0, told
            done += 1
        code = "\n".join(blocks(page, "python"))
        exec(compile(code, page, "exec"), {})
    assert done >= 30


def test_every_link_between_pages_leads_somewhere():
    found = 0
    for page in PAGES:
        text = (ROOT / page).read_text()
        for target in re.findall(r"\]\(([^)#\s]+)\)", text):
            if not target.startswith("http"):
                found += 1
                assert (ROOT / page).parent.joinpath(target).exists(), f"{page}: {target}"
    assert found > 5
