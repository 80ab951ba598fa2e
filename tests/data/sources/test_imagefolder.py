"""Hugging Face's layout: metadata beside the images."""

import json

import pytest
from PIL import Image

from acclimate.data.sources.read import read
from acclimate.errors import DataError


def paint(folder, *names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)


def lines(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def table(dataset):
    columns = (dataset.table[name].to_pylist() for name in ("path", "label", "split"))
    return list(zip(*columns, strict=True))


def refusal(folder):
    with pytest.raises(DataError) as caught:
        read(folder)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "hf"
    paint(folder, "1.png", "2.png")
    return folder


def test_labels_come_from_the_metadata(folder):
    (folder / "metadata.csv").write_text("file_name,label,text\n1.png,cat,a cat\n2.png,dog,\n")
    assert table(read(folder)) == [("1.png", "cat", None), ("2.png", "dog", None)]


def test_json_lines_tell_the_same_and_numbers_are_names(folder):
    lines(
        folder / "metadata.jsonl",
        {"file_name": "1.png", "label": 10, "objects": {"bbox": [1]}, "group": 7},
        {"file_name": "2.png", "label": 9},
    )
    dataset = read(folder)
    assert table(dataset) == [("1.png", "10", None), ("2.png", "9", None)]
    assert dataset.table["group"].to_pylist() == ["7", None]


def test_each_split_has_metadata_of_its_own(tmp_path):
    paint(tmp_path, "train/a/1.png", "test/1.png", "validation/2.png")
    lines(tmp_path / "train" / "metadata.jsonl", {"file_name": "a/1.png", "label": "cat"})
    (tmp_path / "test" / "metadata.csv").write_text("file_name,label\n1.png,dog\n")
    lines(tmp_path / "validation" / "metadata.jsonl", {"file_name": "2.png", "label": "cat"})
    assert sorted(table(read(tmp_path))) == [
        ("test/1.png", "dog", "test"),
        ("train/a/1.png", "cat", "train"),
        ("validation/2.png", "cat", "val"),
    ]


def test_metadata_at_the_top_knows_splits_by_their_folders(tmp_path):
    paint(tmp_path, "train/1.png", "test/1.png", "more/1.png")
    names = ("train/1.png", "test/1.png", "more/1.png")
    lines(tmp_path / "metadata.jsonl", *({"file_name": n, "label": "cat"} for n in names))
    assert [row[2] for row in table(read(tmp_path))] == ["train", "test", None]


def test_metadata_without_labels_leaves_a_folder_a_folder(tmp_path):
    paint(tmp_path, "cat/1.png", "dog/1.png")
    lines(tmp_path / "metadata.jsonl", {"file_name": "cat/1.png", "text": "a cat"})
    assert read(tmp_path).classes == ("cat", "dog")


def test_images_that_no_metadata_names_are_counted(folder):
    paint(folder, "more/3.png", "more/4.png")
    lines(folder / "metadata.jsonl", {"file_name": "1.png", "label": "cat"})
    assert read(folder).notes == ("3 images that no metadata file names: left out.",)


def test_an_image_that_is_missing_or_listed_twice_is_told_with_its_line(folder):
    lines(
        folder / "metadata.jsonl",
        {"file_name": "1.png", "label": "cat"},
        {"file_name": "gone.png", "label": "cat"},
        {"file_name": "1.png", "label": "cat"},
        {"file_name": "2.png", "label": "dog"},
    )
    dataset = read(folder)
    assert dataset.table["reasons"].to_pylist() == [
        [], ["no such file (line 2)"], ["listed again: same path as line 1"], [],
    ]  # fmt: skip
    assert dataset.notes[0] == (
        "metadata.jsonl:3: '1.png' is listed again: same path as line 1."
    )  # fmt: skip


def test_a_path_that_leads_out_is_never_opened(folder, tmp_path):
    paint(tmp_path, "secret.png")
    lines(
        folder / "metadata.jsonl",
        {"file_name": "1.png", "label": "cat"},
        {"file_name": "../secret.png", "label": "cat"},
    )
    assert read(folder).keep.tolist() == [True, False]


@pytest.mark.parametrize("bad", ["{", "[1]", "7", '{"file_name": "' + "x" * (1 << 20) + '"}'])
def test_a_line_that_is_no_object_is_told_with_its_number(folder, bad):
    path = folder / "metadata.jsonl"
    path.write_text('{"file_name": "1.png", "label": "cat"}\n\n' + bad + "\n")
    assert refusal(folder) == (
        f"{path}:3: line is not a JSON object. "
        'Write one image a line: {"file_name": "1.jpg", "label": "cat"}.'
    )


def test_a_label_that_is_no_name_is_told_with_its_line(folder):
    path = folder / "metadata.jsonl"
    lines(path, {"file_name": "1.png", "label": "a"}, {"file_name": "2.png", "label": ["a"]})
    assert refusal(folder) == f"{path}:2: label is ['a'], not a name."


def test_an_empty_label_is_told_with_its_line(folder):
    path = folder / "metadata.jsonl"
    lines(path, {"file_name": "1.png", "label": "a"}, {"file_name": "2.png", "label": None})
    assert refusal(folder).startswith(f"{path}:2: label is empty.")
