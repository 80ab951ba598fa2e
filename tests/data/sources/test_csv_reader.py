"""CSV as people write it: every line with its number, every fault with its line."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acclimate.data.sources.csv_reader import read_csv
from acclimate.errors import DataError


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "list.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def refusal(path):
    with pytest.raises(DataError) as caught:
        list(read_csv(path).lines)
    return str(caught.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_have_the_number_they_have_in_an_editor(written, delimiter, mark, end):
    rows = [["path", "label"], ["1.jpg", "a"], [], ["2.jpg", "b"]]
    text = mark + end.join(delimiter.join(row) for row in rows)
    found = read_csv(written(text))
    assert found.columns == ["path", "label"]
    assert [(line.number, dict(line.cells)) for line in found.lines] == [
        (2, {"path": "1.jpg", "label": "a"}),
        (4, {"path": "2.jpg", "label": "b"}),
    ]


def test_a_short_line_has_empty_cells_at_its_end(written):
    (line,) = read_csv(written("path,label,split\n1.jpg\n")).lines
    assert line.cells == {"path": "1.jpg", "label": None, "split": None}


REFUSED = {
    "a comma in a name": (
        "path,label\n1.jpg,a\nred, old.jpg,rose\n",
        3,
        "line has 3 cells and the list 2 columns. "
        'Put a cell that holds a delimiter into quotes: "a, b".',
    ),
    "another delimiter in a line": (
        "path;label\n1.jpg;a\n2.jpg,b\n",
        3,
        "line is separated by commas, the first line by semicolons. "
        "Use the same delimiter in all lines.",
    ),
    "tabs in a line": (
        "path,label\n1.jpg\ta\n",
        2,
        "line is separated by tabs, the first line by commas. Use the same delimiter in all lines.",
    ),
    "two delimiters in the first line": (
        "path;label,split;group\n1.jpg;a;train\n",
        1,
        "the first line is separated by semicolons and commas. Use semicolons alone.",
    ),
    "a column twice": (
        "path,label,label\n1.jpg,a,b\n",
        1,
        "column 'label' appears twice. Name each column once.",
    ),
}


@pytest.mark.parametrize(("text", "line", "message"), REFUSED.values(), ids=REFUSED)
def test_a_line_of_another_shape_is_told_with_its_number(written, text, line, message):
    path = written(text)
    assert refusal(path) == f"{path}:{line}: {message}"


def test_text_that_is_not_utf_8_is_told_with_its_line(written):
    path = written("path,label\n0.jpg,the\n1.jpg,café\n2.jpg,thé\n".encode("latin-1"))
    assert refusal(path) == f"{path}:3: list is not UTF-8 text. Save it as CSV in UTF-8."


def test_a_comma_at_the_end_of_every_line_harms_nothing(written):
    (line,) = read_csv(written("path,label,\n1.jpg,a,\n")).lines
    assert line.cells["label"] == "a"


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@given(rows=st.lists(st.lists(CELL, min_size=2, max_size=2), max_size=6))
def test_what_a_spreadsheet_wrote_is_read_back(tmp_path_factory, rows):
    rows = [[a.strip(), b.strip()] for a, b in rows if (a + b).strip()]  # blank ones are skipped
    path = tmp_path_factory.getbasetemp() / "spreadsheet.csv"  # mktemp takes most of the time
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([["path", "label"], *rows])
    lines = [[line.cells["path"], line.cells["label"]] for line in read_csv(path).lines]
    assert lines == rows
