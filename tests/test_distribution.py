"""What is in the package that others install, and what it says of itself."""

import email
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import acclimate

ROOT = Path(__file__).parents[1]
BUILD = """
import sys
from setuptools import build_meta
print(build_meta.prepare_metadata_for_build_wheel(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def metadata(tmp_path_factory):
    """The metadata of the wheel, built from a copy of what it is made of."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "src"):
        (source / name).symlink_to(ROOT / name)
    command = [sys.executable, "-W", "ignore", "-c", BUILD, str(source / "out")]
    (source / "setup.cfg").write_text(f"[egg_info]\negg_base = {source}\n")
    (source / "out").mkdir()
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (found,) = (source / "out").glob("*.dist-info")
    return email.message_from_string((found / "METADATA").read_text())


def test_the_description_is_the_readme_with_links_that_work_everywhere(metadata):
    text = metadata.get_payload()
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert len(targets) > 25
    assert all(target.startswith("https://") for target in targets)
    pages = [t.partition("/main/")[2] for t in targets if "acclimate/acclimate/" in t]
    assert len(pages) > 25
    assert all((ROOT / page).exists() for page in pages)
    assert "https://github.com/acclimate/acclimate/raw/main/docs/report.png" in targets
    plain = (ROOT / "README.md").read_text().splitlines()
    assert [line for line in text.splitlines() if "](" not in line] == [
        line for line in plain if "](" not in line
    ]


def test_the_metadata_names_license_version_and_extras(metadata):
    assert metadata["Version"] == acclimate.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert {"dev", "docs", "heic"} <= set(metadata.get_all("Provides-Extra"))


def test_every_file_of_the_package_that_is_no_python_goes_into_the_wheel():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    package = ROOT / "src" / "acclimate"
    packed = {path for glob in settings["package-data"]["acclimate"] for path in package.glob(glob)}
    others = {
        path
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts
    }
    assert others == packed
    assert len(others) >= 7


def test_what_the_source_distribution_takes_along_is_there():
    lines = (ROOT / "MANIFEST.in").read_text().splitlines()
    for line in lines:
        command, *names = line.split()
        if command in ("include", "graft"):
            assert all((ROOT / name).exists() for name in names), line


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == acclimate.__version__
    assert citation["license"] == "Apache-2.0"
    assert citation["authors"]
