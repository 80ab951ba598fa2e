"""The Chinese README says the same as the English one, as far as a program can tell."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENGLISH, CHINESE = ((ROOT / name).read_text() for name in ("README.md", "README.zh-CN.md"))


def test_the_code_is_the_same():
    blocks = [re.findall(r"^```.*?^```", text, re.M | re.S) for text in (ENGLISH, CHINESE)]
    assert blocks[0] == blocks[1]
    assert len(blocks[0]) == 4


def test_each_links_to_the_other_and_both_to_the_same_pages():
    assert "[简体中文](README.zh-CN.md)" in ENGLISH
    assert "[English](README.md)" in CHINESE
    links = [
        [t for t in re.findall(r"\]\(([^)]+)\)", text) if not t.startswith("README")]
        for text in (ENGLISH, CHINESE)
    ]
    assert sorted(links[0]) == sorted(links[1])
    assert len(links[0]) > 25


def test_sections_rows_and_points_are_as_many():
    for line in (r"^## ", r"^\| ", r"^- "):
        counts = [len(re.findall(line, text, re.M)) for text in (ENGLISH, CHINESE)]
        assert counts[0] == counts[1], line


def test_the_figures_are_the_same():
    numbers = [
        [sorted(re.findall(r"\d[\d.,]*\d|\d", row)) for row in re.findall(r"^\| .*", text, re.M)]
        for text in (ENGLISH, CHINESE)
    ]
    assert numbers[0] == numbers[1]
    decimals = [sorted(re.findall(r"\d+\.\d+", text)) for text in (ENGLISH, CHINESE)]
    assert decimals[0] == decimals[1]


def test_the_printed_part_is_that_of_the_code():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import print_reference
    finally:
        sys.path.pop(0)
    assert print_reference.printed(ROOT / "README.zh-CN.md") == CHINESE
