"""What a list is told when it is read: columns and images that were not meant."""

import pytest
from PIL import Image

from acclimate.cleaning.clean import clean
from acclimate.data.sources.read import read


@pytest.fixture
def listed(tmp_path):
    for number in range(1, 7):
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(tmp_path / f"{number}.png")

    def write(text):
        (tmp_path / "list.csv").write_text(text)
        return tmp_path / "list.csv"

    return write


@pytest.mark.parametrize(
    ("header", "notes"),
    [
        ("path,label,camera", ("list.csv:1: column 'camera' is not used.",)),
        ("path,lable,split", ("list.csv:1: column 'lable' is not used. Did you mean 'label'?",)),
        ("path,label,split", ()),
        ("path,label,", ()),
    ],
)
def test_a_column_that_is_not_used_is_named(listed, header, notes):
    assert read(listed(f"{header}\n1.png,a,\n")).notes == notes


def test_a_line_that_says_the_same_again_is_left_out_and_told(listed):
    dataset = read(listed("path,label\n1.png,a\n2.png,b\n\n1.png,a\n"))
    assert dataset.keep.tolist() == [True, True, False]
    assert dataset.table["reasons"][2].as_py() == ["listed again: same path as line 2"]
    assert dataset.notes == ("list.csv:5: '1.png' is listed again: same path as line 2.",)


def test_lines_that_disagree_about_a_label_teach_nothing(listed):
    text = "path,label\n1.png,a\n2.png,b\n1.png,b\n3.png,a\n4.png,b\n5.png,a\n6.png,b\n"
    dataset = clean(read(listed(text)))
    assert dataset.notes[0] == (
        "list.csv:4: '1.png' is listed again: same path as line 2, which says 'a'."
    )
    assert dataset.keep.tolist() == [False, True, False, True, True, True, True]
    assert dataset.table["reasons"][0].as_py() == ["same file as 1.png with label 'b'"]


def test_many_repeated_lines_are_counted(listed):
    notes = read(listed("path,label\n" + "1.png,a\n" * 40 + "2.png,b\n")).notes
    assert len(notes) == 11
    assert notes[-1] == "list.csv: 29 more lines list an image again."
