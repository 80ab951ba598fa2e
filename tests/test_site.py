"""The site of the docs and the container images are made of what is there."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
MADE = {"index.md", "zh-CN.md"}
"""Pages that `docs/site_pages.py` makes of the READMEs."""


def pages(nav):
    """The pages below an entry of the navigation."""
    if isinstance(nav, str):
        return [nav]
    return [
        page for entry in (nav.values() if isinstance(nav, dict) else nav) for page in pages(entry)
    ]


def test_every_page_of_the_docs_is_in_the_navigation_once():
    named = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert len(named) == len(set(named))
    assert set(named) == MADE | {path.name for path in (ROOT / "docs").glob("*.md")}


def instructions(dockerfile):
    """Word and rest of each instruction, without comments, with joined lines."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.M).replace("\\\n", " ")
    return [line.split(maxsplit=1) for line in text.splitlines() if line]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_has_a_fixed_base_and_runs_as_a_user(dockerfile):
    found = instructions(dockerfile)
    (base,) = [rest for word, rest in found if word == "FROM"]
    assert re.search(r":\d+\.\d+", base)
    words = [word for word, _ in found]
    assert {"HEALTHCHECK", "ENTRYPOINT", "USER"} <= set(words)
    (user,) = [rest for word, rest in found if word == "USER"]
    assert int(user) > 0
    assert max(i for i, word in enumerate(words) if word == "RUN") < words.index("USER")
    assert any("PIP_NO_CACHE_DIR=1" in rest for word, rest in found if word == "ENV")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_what_an_image_copies_is_there_and_reaches_the_builder(dockerfile):
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = [line[1:] for line in lines if line.startswith("!")]
    copied = [name for word, rest in instructions(dockerfile) if word == "COPY"
              for name in rest.split()[:-1]]  # fmt: skip
    assert len(copied) >= 5
    for name in copied:
        assert (ROOT / name).exists()
        assert any(fnmatch(name, pattern) for pattern in let_in)
    assert set(copied) == set(let_in)  # nothing else is sent


def test_there_are_two_images():
    assert [path.stem for path in DOCKERFILES] == ["cpu", "cuda"]
    page = (ROOT / "docs" / "containers.md").read_text()
    assert all(f"--file docker/{path.name}" in page for path in DOCKERFILES)
