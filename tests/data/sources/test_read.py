import errno
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from acclimate.cleaning.clean import clean
from acclimate.data.dataset import HOME, SPLITS
from acclimate.data.settings import Source
from acclimate.data.sources import lists
from acclimate.data.sources.read import read
from acclimate.errors import DataError


def put(folder, *names):
    """Files of some bytes: a listing opens none of them."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not opened")


def paint(folder, *names):
    """Real images, no two alike."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng([*name.encode()]).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


def table(dataset):
    """(path, label, split) of each row, in order."""
    columns = (dataset.table[name].to_pylist() for name in ("path", "label", "split"))
    return list(zip(*columns, strict=True))


def reasons(dataset):
    """Path to reason, of what cannot be used."""
    found = dict(zip(dataset.paths, dataset.table["reasons"].to_pylist(), strict=True))
    assert [bool(reason) for reason in found.values()] == [not keep for keep in dataset.keep]
    return {path: reason[0] for path, reason in found.items() if reason}


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.fixture
def listed(photos):
    """Writes a list beside some files."""
    put(photos, "1.jpg", "2.jpg", "3.jpg")

    def write(text, name="list.csv"):
        path = photos / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def refusal(location, source=None):
    with pytest.raises(DataError) as caught:
        read(location, source or Source())
    return str(caught.value)


def test_a_folder_of_class_folders_is_read_in_order(photos):
    put(photos, "rose/b.jpg", "rose/a.JPG", "daisy/deep/er/c.png", "daisy/d.webp")
    dataset = read(photos)
    assert table(dataset) == [
        ("daisy/d.webp", "daisy", None),
        ("daisy/deep/er/c.png", "daisy", None),
        ("rose/a.JPG", "rose", None),
        ("rose/b.jpg", "rose", None),
    ]
    assert dataset.classes == ("daisy", "rose")
    assert dataset.domains == (HOME,)
    assert dataset.keep.all()
    assert dataset.notes == ()
    assert dataset.path(0) == photos / "daisy" / "d.webp"


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_class_ids_follow_the_names_whatever_the_order_of_folders(photos, order):
    names = ("10", "9", "Zebra", "aal")
    for i in order:
        put(photos, f"{names[i]}/{i}.jpg")
    dataset = read(photos)
    assert dataset.classes == names
    assert dataset.labels.tolist() == [0, 1, 2, 3]


def test_class_ids_of_a_list_follow_the_names_whatever_the_order_of_lines(listed):
    dataset = read(listed("path,label\n1.jpg,rose\n2.jpg,daisy\n3.jpg,rose\n"))
    assert dataset.classes == ("daisy", "rose")
    assert dataset.labels.tolist() == [1, 0, 1]


def test_names_with_spaces_and_unicode_are_kept_as_they_are(photos):
    names = ["Gänse blümchen/Bild 1 🌼.jpg", "向日葵/a, b.png", 'it\'s "quoted"/#1 50%.png']
    put(photos, *names)
    dataset = read(photos)
    assert sorted(dataset.paths) == sorted(names)
    assert set(dataset.classes) == {"Gänse blümchen", "向日葵", 'it\'s "quoted"'}


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_no_text_is_listed_and_does_not_stop_the_rest(photos):
    paint(photos, "rose/a.png", "daisy/b.png")
    content = (photos / "rose" / "a.png").read_bytes()
    Path(os.fsdecode(os.fsencode(photos / "rose") + b"/caf\xe9.png")).write_bytes(content)
    dataset = read(photos)
    assert len(dataset) == 3
    assert int(dataset.keep.sum()) == 2
    (reason,) = reasons(dataset).values()
    assert "name" in reason


JUNK = [
    ".ipynb_checkpoints",
    "__MACOSX",
    ".git",
    ".hidden",
    "@eaDir",
    "$RECYCLE.BIN",
    "__pycache__",
]


@pytest.mark.parametrize("name", JUNK)
def test_a_junk_folder_is_named_and_never_a_class(photos, name):
    put(photos, "rose/a.jpg", "daisy/b.jpg", f"{name}/c.jpg")
    dataset = read(photos)
    assert dataset.classes == ("daisy", "rose")
    assert dataset.paths == ["daisy/b.jpg", "rose/a.jpg"]
    assert dataset.notes == (f"photos/{name} is not a class: left out.",)


def test_a_junk_folder_inside_a_class_is_named_and_left_out_too(photos):
    put(photos, "rose/a.jpg", "rose/.ipynb_checkpoints/a-checkpoint.jpg", "rose/x/__MACOSX/b.jpg")
    dataset = read(photos)
    assert dataset.paths == ["rose/a.jpg"]
    assert any(".ipynb_checkpoints" in note for note in dataset.notes)
    assert any("__MACOSX" in note for note in dataset.notes)


def test_a_junk_folder_inside_a_split_is_named_and_never_a_class(photos):
    put(photos, "train/rose/a.jpg", "train/.ipynb_checkpoints/b.jpg", "__MACOSX/c.jpg")
    dataset = read(photos)
    assert dataset.classes == ("rose",)
    assert dataset.notes == (
        "photos/__MACOSX is not a class: left out.",
        "train/.ipynb_checkpoints is not a class: left out.",
    )


def test_hidden_files_and_thumbnails_are_no_images(photos):
    put(
        photos, "rose/a.jpg", "rose/.DS_Store", "rose/._a.jpg", "rose/Thumbs.db", "rose/desktop.ini"
    )
    dataset = read(photos)
    assert dataset.paths == ["rose/a.jpg"]
    assert dataset.notes == ()


def test_a_file_that_is_no_image_is_listed_with_its_reason(photos):
    put(photos, "rose/a.jpg", "rose/notes.txt", "rose/README", "rose/film.mp4")
    assert reasons(read(photos)) == {
        "rose/README": "not an image file (no suffix)",
        "rose/film.mp4": "not an image file (.mp4)",
        "rose/notes.txt": "not an image file (.txt)",
    }


@pytest.mark.parametrize("place", ["a.jpg", "b.PNG"])
def test_images_beside_the_class_folders_are_counted_and_left_out(photos, place):
    put(photos, "rose/a.jpg", "daisy/b.jpg", place, "notes.txt")
    dataset = read(photos)
    assert dataset.paths == ["daisy/b.jpg", "rose/a.jpg"]
    assert dataset.notes == (
        "1 image outside the class folders: left out.",
    )  # fmt: skip


@pytest.mark.parametrize("place", ["a.jpg", "train/a.jpg"])
def test_images_beside_the_folders_of_a_split_layout_are_counted_too(photos, place):
    put(photos, "train/rose/a.jpg", "test/rose/b.jpg", place)
    dataset = read(photos)
    assert len(dataset) == 2
    assert any(note.startswith("1 image outside") for note in dataset.notes)


def test_an_empty_class_folder_is_named(photos):
    put(photos, "rose/a.jpg", "daisy/b.jpg")
    (photos / "tulip").mkdir()
    dataset = read(photos)
    assert dataset.classes == ("daisy", "rose")
    assert any("tulip" in note for note in dataset.notes)


def test_a_folder_of_images_without_classes_is_unlabelled(photos):
    put(photos, "b.jpg", "a.jpg", "notes.txt")
    dataset = read(photos)
    assert table(dataset) == [
        ("a.jpg", None, "unlabelled"),
        ("b.jpg", None, "unlabelled"),
        ("notes.txt", None, "unlabelled"),
    ]
    assert dataset.classes == ()
    assert reasons(dataset) == {"notes.txt": "not an image file (.txt)"}


@pytest.mark.parametrize("inside", [(), ("rose", "daisy"), (".git",), ("rose/deep",)])
def test_an_empty_folder_is_told_with_a_way_out(photos, inside):
    for name in inside:
        (photos / name).mkdir(parents=True)
    assert refusal(photos) == (
        f"{photos}: no images found here. Put them into one folder per class: photos/<class>/*.jpg."
    )


def test_a_missing_place_is_told(photos):
    assert refusal(photos / "nowhere") == (
        f"{photos / 'nowhere'}: no such file or folder. Check the spelling."
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [("photos.rar", ".rar files"), ("list.txt", ".txt files"), ("list", "this file")],
)
def test_another_kind_of_file_is_no_data(photos, name, kind):
    put(photos, name)
    assert refusal(photos / name) == (
        f"{photos / name}: cannot read {kind} as data. "
        "Give a folder of images, an archive of one (.zip, .tar, .tar.gz, .tgz, "
        ".tar.bz2, .tbz2, .tar.xz, .txz), "
        "or a .csv or .parquet list."
    )


VAL_NAMES = ["val", "valid", "validation", "dev", "Val", "VALID"]


@pytest.mark.parametrize("val", VAL_NAMES)
def test_split_folders_are_read_as_splits(photos, val):
    put(photos, "train/rose/a.jpg", "train/daisy/b.jpg", f"{val}/rose/c.jpg", "test/daisy/d.jpg")
    dataset = read(photos)
    assert dataset.classes == ("daisy", "rose")
    assert {path: split for path, _, split in table(dataset)} == {
        "train/rose/a.jpg": "train",
        "train/daisy/b.jpg": "train",
        f"{val}/rose/c.jpg": "val",
        "test/daisy/d.jpg": "test",
    }


def test_unlabelled_images_stand_beside_the_splits(photos):
    put(photos, "Training/rose/a.jpg", "testing/rose/b.jpg", "unlabeled/x/c.jpg", "unlabeled/d.jpg")
    dataset = read(photos)
    assert dataset.classes == ("rose",)
    assert {row[1:] for row in table(dataset) if row[0].startswith("unlabeled")} == {
        (None, "unlabelled")
    }
    assert len(dataset) == 4


def test_a_class_that_stands_in_the_test_split_alone_is_a_class(photos):
    put(photos, "train/rose/a.jpg", "test/rose/b.jpg", "test/daisy/c.jpg")
    assert read(photos).classes == ("daisy", "rose")


@pytest.mark.parametrize("names", [("train", "daisy"), ("test", "daisy"), ("val", "test")])
def test_without_a_split_layout_such_words_are_plain_class_names(photos, names):
    put(photos, *(f"{name}/a.jpg" for name in names))
    dataset = read(photos)
    assert dataset.classes == tuple(sorted(names))
    assert set(dataset.splits.tolist()) == {-1}


def test_a_foreign_folder_beside_the_splits_does_not_make_classes_of_them(photos):
    put(photos, "train/rose/a.jpg", "test/rose/b.jpg", "annotations/c.jpg")
    dataset = read(photos)
    assert dataset.classes == ("rose",)
    assert {split for _, _, split in table(dataset)} == {"train", "test"}
    assert any("annotations" in note for note in dataset.notes)


def test_a_split_folder_without_class_folders_is_told(photos):
    put(photos, "train/rose/a.jpg", "test/b.jpg")
    assert refusal(photos) == (
        f"{photos / 'test'}: split folder has no class folders. "
        "Put its images into one folder per class."
    )


@pytest.mark.parametrize("val", ["val", "valid"])
def test_a_given_layout_comes_through_cleaning_unchanged(photos, val):
    names = [f"{s}/{c}/{i}.png" for s in ("train", val, "test") for c in "ab" for i in range(3)]
    paint(photos, *names)
    before = read(photos)
    after = clean(before)
    assert table(after) == table(before)
    assert after.counts("val") == {"a": 3, "b": 3}


def test_the_test_split_never_becomes_val(photos):
    paint(photos, *(f"{s}/{c}/{i}.png" for s in ("train", "test") for c in "ab" for i in range(10)))
    dataset = clean(read(photos))
    for path, _, split in table(dataset):
        assert (split == "test") == path.startswith("test/")
    assert dataset.counts("val") == {"a": 2, "b": 2}


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_classes_can_be_left_out(photos, prefix):
    put(photos, *(f"{prefix}{name}/1.jpg" for name in ("rose", "daisy", "no")))
    dataset = read(photos, Source(leave_out_classes=("no", "rose")))
    assert dataset.classes == ("daisy",)
    assert dataset.paths == [f"{prefix}daisy/1.jpg"]


def test_a_class_to_leave_out_that_is_none_is_told(photos, tmp_path):
    put(photos, *(f"{name}/1.jpg" for name in ("rose", "daisy", "tulip")))
    source = Source(leave_out_classes=("rosa",))
    assert refusal(photos, source) == (
        f"{photos}: there is no class 'rosa' to leave out. Did you mean 'rose'? "
        "Correct data.leave_out_classes."
    )
    fewer = read(photos, Source(leave_out_classes=("rose",)))
    fewer.save(tmp_path / "fewer.parquet")
    again = read(tmp_path / "fewer.parquet", Source(leave_out_classes=("rose", "daisy")))
    assert again.classes == ("tulip",)


def test_of_images_without_classes_none_can_be_left_out(photos):
    put(photos, "1.jpg")
    assert "'rose' to leave out. The images have no classes." in refusal(
        photos, Source(leave_out_classes=("rose",))
    )


def test_a_domain_need_not_have_the_class_that_is_left_out(photos, tmp_path):
    put(photos, *(f"{name}/1.jpg" for name in ("rose", "daisy", "tulip")))
    put(tmp_path / "phone", "daisy/1.jpg", "tulip/1.jpg", "rose/1.jpg")
    put(tmp_path / "scans", "daisy/1.jpg")
    domains = {"phone": tmp_path / "phone", "scans": tmp_path / "scans"}
    dataset = read(photos, Source(leave_out_classes=("rose",), test_domains=domains))
    assert dataset.classes == ("daisy", "tulip")
    assert len(dataset.rows(domain="phone")) == 2


def test_classes_can_be_left_out_of_a_list(listed):
    dataset = read(
        listed("path,label\n1.jpg,rose\n2.jpg,daisy\n3.jpg,rose\n"),
        Source(leave_out_classes=("rose",)),
    )
    assert dataset.classes == ("daisy",)
    assert dataset.paths == ["2.jpg"]


@pytest.fixture
def linked(photos, tmp_path):
    """Links that leave the folder: a file, a class, and a folder inside a class."""
    paint(tmp_path / "private", "secret.png", "tulip/1.png", "album/2.png")
    paint(photos, "rose/a.png", "rose/c.png", "daisy/b.png", "daisy/d.png")
    (photos / "rose" / "file.png").symlink_to(tmp_path / "private" / "secret.png")
    (photos / "tulip").symlink_to(tmp_path / "private" / "tulip")
    (photos / "rose" / "album").symlink_to(tmp_path / "private" / "album")
    return photos


def test_a_link_to_a_file_outside_is_listed_and_not_followed(linked):
    dataset = read(linked)
    assert reasons(dataset) == {"rose/file.png": "link leads out of the folder"}
    assert "rose/file.png" not in {dataset.paths[row] for row in clean(dataset).rows()}


def test_a_link_to_a_class_folder_outside_is_named_and_not_followed(linked):
    dataset = read(linked)
    assert dataset.classes == ("daisy", "rose")
    assert "photos/tulip is a link out of the folder: left out." in dataset.notes


def test_a_link_inside_a_class_to_a_folder_outside_is_named_and_not_followed(linked):
    dataset = read(linked)
    assert not any("album/" in path for path in dataset.paths)
    assert any("album" in note for note in dataset.notes)


def test_links_that_leave_the_folder_are_followed_when_asked(linked):
    dataset = read(linked, Source(allow_outside=True))
    assert dataset.classes == ("daisy", "rose", "tulip")
    assert {"rose/file.png", "tulip/1.png", "rose/album/2.png"} <= set(dataset.paths)
    assert reasons(dataset) == {}


def test_links_that_stay_in_the_folder_are_read(photos):
    put(photos, "rose/a.jpg", "daisy/b.jpg")
    (photos / "rose" / "c.jpg").symlink_to(Path("..") / "daisy" / "b.jpg")
    (photos / "tulip").symlink_to("daisy")
    dataset = read(photos)
    assert set(dataset.paths) == {"rose/a.jpg", "rose/c.jpg", "daisy/b.jpg", "tulip/b.jpg"}
    assert dataset.keep.all()


def test_a_link_to_nothing_is_listed(photos):
    put(photos, "rose/a.jpg")
    (photos / "rose" / "b.jpg").symlink_to("gone.jpg")
    assert reasons(read(photos)) == {"rose/b.jpg": "no such file"}


def test_links_in_a_circle_end(photos):
    put(photos, "rose/a.jpg")
    (photos / "rose" / "again").symlink_to(photos)
    (photos / "rose" / "self.jpg").symlink_to("self.jpg")
    for source in (Source(), Source(allow_outside=True)):
        dataset = read(photos, source)
        assert "rose/a.jpg" in dataset.paths
        assert dataset.keep[dataset.paths.index("rose/self.jpg")] == np.False_
    assert reasons(read(photos))["rose/self.jpg"] == "link leads in a circle"


def test_a_link_in_a_circle_beside_the_class_folders_is_no_class(photos):
    put(photos, "rose/a.jpg")
    (photos / "loop").symlink_to("loop")
    (photos / "loop.jpg").symlink_to("loop.jpg")
    dataset = read(photos)
    assert dataset.paths == ["rose/a.jpg"]
    assert dataset.classes == ("rose",)


@pytest.mark.parametrize("place", ["", "rose", "rose/deep"])
def test_a_folder_that_may_not_be_read_is_told_and_not_taken_for_empty(photos, monkeypatch, place):
    put(photos, "rose/deep/a.jpg", "daisy/a.jpg")
    closed, scandir = photos / place, os.scandir

    def refusing(folder):
        if Path(folder) == closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    assert refusal(photos) == (
        f"{closed}: folder cannot be read (permission denied). "
        "Give yourself the right to read it, or move it away."
    )


def test_a_list_gives_labels_splits_and_groups(listed):
    dataset = read(
        listed(
            "path,label,split,group,camera\n"
            "1.jpg,rose,train,g1,x\n"
            "2.jpg,daisy,Valid,,x\n"
            "3.jpg,rose,,g1,x\n"
        )
    )
    assert table(dataset) == [
        ("1.jpg", "rose", "train"),
        ("2.jpg", "daisy", "val"),
        ("3.jpg", "rose", None),
    ]
    assert dataset.table["group"].to_pylist() == ["g1", None, "g1"]
    assert dataset.root == listed("x", "other.csv").parent


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffpath,label\n1.jpg,rose\n2.jpg,daisy\n",
        "path\tlabel\n1.jpg\trose\n2.jpg\tdaisy\n",
        "path;label\r\n1.jpg;rose\r\n2.jpg;daisy\r\n",
        '"path","label"\n"1.jpg","rose"\n"2.jpg","daisy"\n',
        "Path, Label\n1.jpg,rose\n2.jpg,daisy\n",
        "label,filename\nrose,1.jpg\ndaisy,2.jpg\n",
        "class,image\nrose,1.jpg\n\ndaisy,2.jpg\n\n",
        "target,file\nrose,1.jpg\ndaisy,2.jpg",
        "\ufefffile_name\tclass\r\n1.jpg\trose\r\n2.jpg\tdaisy\r\n",
        "path, label\n1.jpg, rose\n2.jpg, daisy\n",
    ],
    ids=[
        "byte-order mark", "tabs", "semicolons", "quotes", "capitals", "other order",
        "blank lines", "no last newline", "mark and tabs", "spaces after commas",
    ],
)  # fmt: skip
def test_a_list_is_read_however_it_was_written(listed, text):
    for name in ("list.csv", "list.TSV"):
        dataset = read(listed(text, name))
        assert [row[:2] for row in table(dataset)] == [("1.jpg", "rose"), ("2.jpg", "daisy")]
        assert dataset.keep.all()


def test_a_label_may_hold_the_delimiter_and_a_line_break(listed):
    dataset = read(listed('path,label\n1.jpg,"rose, red"\n2.jpg,"a\nb"\n'))
    assert dataset.classes == ("a b", "rose, red")


def test_a_list_without_labels_is_unlabelled(listed):
    dataset = read(listed("path,split\n1.jpg,test\n2.jpg,\n"))
    assert [row[1:] for row in table(dataset)] == [(None, "unlabelled")] * 2
    assert dataset.classes == ()


def test_an_unlabelled_line_needs_no_label(listed):
    dataset = read(listed("path,label,split\n1.jpg,rose,train\n2.jpg,,unlabelled\n"))
    assert table(dataset)[1] == ("2.jpg", None, "unlabelled")


EMPTY_LABEL = (
    "label is empty. "
    "Give a label, or leave the column out to treat the images as unlabelled."
)  # fmt: skip
EMPTY_PATH = "path is empty. Give each line the path of an image."
BAD_LINES = {
    "empty label": ("path,label\n1.jpg,rose\n2.jpg,\n", 3, EMPTY_LABEL),
    "blank label": ("path,label\n1.jpg,rose\n2.jpg,  \n", 3, EMPTY_LABEL),
    "short line": ("path,label\n1.jpg,rose\n2.jpg\n", 3, EMPTY_LABEL),
    "empty path": ("path,label\n1.jpg,rose\n,rose\n", 3, EMPTY_PATH),
    "blank path": ("path,label\n1.jpg,rose\n  ,rose\n", 3, EMPTY_PATH),
    "unknown split": (
        "path,label,split\n1.jpg,rose,tset\n",
        2,
        "split 'tset' is unknown. Did you mean 'test'? Leave it empty to have the image assigned.",
    ),
    "foreign split": (
        "path,label,split\n1.jpg,rose,7\n",
        2,
        "split '7' is unknown. Known: test, train, unlabelled, val. "
        "Leave it empty to have the image assigned.",
    ),
}


def test_blank_rows_of_a_spreadsheet_are_passed_over(listed):
    path = listed("path,label\n1.jpg,rose\n,\n ,\n\n2.jpg,daisy\n,\n")
    assert table(read(path)) == [("1.jpg", "rose", None), ("2.jpg", "daisy", None)]


@pytest.mark.parametrize(("text", "line", "message"), BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_bad_line_is_told_with_its_number(listed, text, line, message):
    path = listed(text)
    assert refusal(path) == f"{path}:{line}: {message}"


@pytest.mark.parametrize(
    ("header", "shown"),
    [("image_path,label", "'image_path', 'label'"), ("label", "'label'"), ("", "none")],
)
def test_a_list_without_paths_names_the_columns_it_has(listed, header, shown):
    path = listed(f"{header}\n1.jpg,rose\n" if header else "")
    assert refusal(path) == (
        f"{path}: list has no column 'path'; it has {shown}. "
        "Name the columns path, label and split in the first line."
    )


def test_a_list_of_no_lines_has_no_images(listed):
    path = listed("path,label\n")
    assert refusal(path).startswith(f"{path}: no images found here.")


@pytest.mark.parametrize(
    "content",
    [
        "path,label\n1.jpg,caf\xe9\n".encode("latin-1"),
        "path,l\xe9gende\n1.jpg,cafe\n".encode("latin-1"),
        "path,label\n1.jpg,rose\n".encode("utf-16"),
        b"path,label\n1.jpg," + b"x" * 100_000 + b"\n",
        b'path,label\n1.jpg,"' + b"rose\n2.jpg,daisy\n" * 10_000,
        b"\x00\xff" * 50,
    ],
    ids=["latin-1", "latin-1 header", "utf-16", "endless field", "unclosed quote", "bytes"],
)
def test_a_list_that_cannot_be_read_is_told(listed, content):
    path = listed(content)
    assert refusal(path).startswith(f"{path}")


@pytest.mark.parametrize("name", ["list.csv", "list.parquet"])
def test_a_path_with_a_zero_byte_is_told_or_listed(photos, name):
    put(photos, "1.jpg")
    path = photos / name
    if name.endswith("csv"):
        path.write_bytes(b"path,label\n1.jpg,rose\n2\0.jpg,daisy\n")
    else:
        pq.write_table(pa.table({"path": ["1.jpg", "2\0.jpg"], "label": ["rose", "daisy"]}), path)
    dataset = read(path)
    assert dataset.keep.tolist() == [True, False]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_listed_path_that_leaves_the_folder_is_listed_and_not_opened(photos, tmp_path, kind):
    paint(tmp_path, "secret.png")
    paint(photos, "1.png", "sub/2.png")
    (photos / "link.png").symlink_to(tmp_path / "secret.png")
    outside = ["../secret.png", "sub/../../secret.png", str(tmp_path / "secret.png"), "link.png"]
    names = ["1.png", "sub/../1.png", "sub/2.png", str(photos / "1.png"), *outside]
    path = photos / f"list.{kind}"
    if kind == "csv":
        path.write_text("path,label\n" + "".join(f"{name},rose\n" for name in names))
    else:
        pq.write_table(pa.table({"path": names, "label": ["rose"] * len(names)}), path)
    dataset = read(path)
    lines = range(6, 10) if kind == "csv" else range(5, 9)
    assert reasons(dataset) == {
        name: f"path leads out of the list's folder (line {line})"
        for name, line in zip(outside, lines, strict=True)
    }
    assert dataset.table["bytes"].to_pylist()[4:] == [0] * 4
    allowed = read(path, Source(allow_outside=True))
    assert allowed.keep.all()


def test_a_listed_file_that_is_missing_is_listed(listed):
    dataset = read(listed("path,label\n1.jpg,rose\ngone/4.jpg,rose\n"))
    assert reasons(dataset) == {"gone/4.jpg": "no such file (line 3)"}
    assert len(dataset) == 2


def test_a_parquet_list_tells_unused_columns_and_images_that_are_listed_again(photos):
    paint(photos, "1.png", "2.png")
    columns = {
        "path": ["1.png", "2.png", "1.png", "2.png"],
        "label": ["rose", "rose", "rose", "daisy"],
        "splitt": ["train"] * 4,
    }
    pq.write_table(pa.table(columns), photos / "list.parquet")
    dataset = read(photos / "list.parquet")
    assert dataset.notes == (
        "list.parquet: column 'splitt' is not used. Did you mean 'split'?",
        "list.parquet: row 3: '1.png' is listed again: same path as row 1.",
        "list.parquet: row 4: '2.png' is listed again: same path as row 2, which says 'rose'.",
    )
    assert dataset.table["reasons"].to_pylist()[2] == ["listed again: same path as row 1"]
    assert dataset.keep.tolist() == [True, True, False, True]


def test_numbers_in_a_parquet_list_are_no_paths(photos):
    pq.write_table(pa.table({"image": [1.5], "label": ["rose"]}), photos / "list.parquet")
    assert refusal(photos / "list.parquet") == (
        f"{photos / 'list.parquet'}: column 'image' holds double, not paths. "
        "Write the images as files, and a list of their paths."
    )


def test_a_second_column_of_one_meaning_is_told_without_an_offer(listed):
    dataset = read(listed("path,label,class\n1.jpg,rose,2\n"))
    assert dataset.notes == ("list.csv:1: column 'class' is not used.",)


def test_a_parquet_list_is_read_whatever_the_types_of_its_columns(photos):
    put(photos, "1.jpg", "2.jpg", "3.jpg")
    columns = {
        "label": pa.array([7, 10, 7]),
        "file": pa.array(["1.jpg", "2.jpg", "3.jpg"]).dictionary_encode(),
        "subset": pa.array(["train", None, "dev"], pa.large_string()),
        "__index_level_0__": [0, 1, 2],
    }
    pq.write_table(pa.table(columns), photos / "list.parquet")
    dataset = read(photos / "list.parquet")
    assert table(dataset) == [
        ("1.jpg", "7", "train"),
        ("2.jpg", "10", None),
        ("3.jpg", "7", "val"),
    ]
    assert dataset.classes == ("10", "7")


@pytest.mark.parametrize("empty", [None, "", " "])
def test_an_empty_cell_of_a_parquet_list_is_told_as_in_a_csv(photos, empty):
    put(photos, "1.jpg", "2.jpg")
    path = photos / "list.parquet"
    pq.write_table(pa.table({"path": ["1.jpg", "2.jpg"], "label": ["rose", empty]}), path)
    assert refusal(path) == f"{path}: row 2: {EMPTY_LABEL}"
    pq.write_table(pa.table({"path": ["1.jpg", empty], "label": ["rose", "rose"]}), path)
    assert refusal(path) == f"{path}: row 2: {EMPTY_PATH}"


@pytest.mark.parametrize("empty", [None, ""])
def test_an_empty_split_of_a_parquet_list_is_to_be_assigned(photos, empty):
    put(photos, "1.jpg", "2.jpg")
    columns = {"path": ["1.jpg", "2.jpg"], "label": ["a", "b"], "split": ["train", empty]}
    pq.write_table(pa.table(columns), photos / "list.parquet")
    assert [row[2] for row in table(read(photos / "list.parquet"))] == ["train", None]


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", b"path,label\n"])
def test_a_broken_parquet_list_is_told(photos, content):
    path = photos / "list.parquet"
    path.write_bytes(content)
    assert refusal(path).startswith(f"{path}: list cannot be read (")


def test_a_long_parquet_list_is_read_to_its_end(photos, monkeypatch):
    monkeypatch.setattr(lists, "_ROWS_PER_BATCH", 100)
    put(photos, "1.jpg")
    path = photos / "list.parquet"
    pq.write_table(pa.table({"path": ["1.jpg"] * 250, "label": ["a", "b"] * 125}), path)
    dataset = read(path)
    assert len(dataset) == 250
    assert dataset.labels[:4].tolist() == [0, 1, 0, 1]


@pytest.fixture
def night(tmp_path):
    put(tmp_path / "night", "rose/1.jpg", "rose/2.jpg")
    return tmp_path / "night"


def test_a_test_domain_is_tested_on_its_own_and_never_trained_on(photos, night):
    put(photos, "rose/a.jpg", "daisy/b.jpg")
    dataset = read(photos, Source(test_domains={"night": night}))
    assert dataset.domains == (HOME, "night")
    assert dataset.classes == ("daisy", "rose")
    assert dataset.rows(domain="night").tolist() == [2, 3]
    assert {SPLITS[dataset.splits[row]] for row in (2, 3)} == {"test"}
    assert dataset.path(2) == night / "rose" / "1.jpg"
    assert dataset.keep.all()


def test_data_with_a_test_domain_still_gets_a_test_split_of_its_own(photos, night):
    paint(photos, *(f"{name}/{i}.png" for name in ("rose", "daisy") for i in range(10)))
    paint(night, "rose/1.png")
    dataset = clean(read(photos, Source(test_domains={"night": night})))
    assert dataset.counts("test") == {"daisy": 2, "rose": 2}
    assert dataset.counts("val") == {"daisy": 2, "rose": 2}


def zipped(place):
    return Path(shutil.make_archive(str(place), "zip", place))


def as_list(place):
    lines = [f"{p.relative_to(place)},{p.parent.name}" for p in sorted(place.rglob("*.jpg"))]
    (place / "list.csv").write_text("\n".join(["path,label", *lines]))
    return place / "list.csv"


def as_saved(place):
    read(place).save(place / "saved.parquet")
    return place / "saved.parquet"


@pytest.mark.parametrize("arrange", [zipped, as_list, as_saved])
def test_a_test_domain_may_be_whatever_ones_own_images_may_be(photos, night, arrange):
    put(photos, "rose/a.jpg", "daisy/b.jpg")
    dataset = read(photos, Source(test_domains={"night": arrange(night)}))
    rows = dataset.rows("test", "night").tolist()
    assert rows == [2, 3]
    assert [dataset.path(row).name for row in rows] == ["1.jpg", "2.jpg"]
    assert all(dataset.path(row).is_absolute() for row in rows)
    assert {dataset.classes[dataset.labels[row]] for row in rows} == {"rose"}
    assert dataset.root == photos


def test_a_domain_without_images_is_refused(photos, tmp_path):
    put(photos, "rose/a.jpg")
    place = tmp_path / "night"
    (place / "rose").mkdir(parents=True)
    assert refusal(photos, Source(test_domains={"night": place})) == (
        f"{place}: no images found here. Correct data.test_domains."
    )


def test_a_domain_with_an_unknown_class_is_refused(photos, night):
    put(photos, "roses/a.jpg", "daisy/b.jpg")
    assert refusal(photos, Source(test_domains={"night": night})) == (
        f"{night}: class 'rose' is not among the data's classes. Did you mean 'roses'?"
    )


def test_a_missing_domain_is_refused(photos):
    put(photos, "rose/a.jpg")
    place = photos / "nowhere"
    assert refusal(photos, Source(test_domains={"night": place})) == (
        f"{place}: no such file or folder. Correct data.test_domains."
    )


def test_a_domain_cannot_take_the_name_of_ones_own_images(photos, night):
    put(photos, "rose/a.jpg")
    assert refusal(photos, Source(test_domains={HOME: night})) == (
        "data.test_domains: 'home' is the name of your own images."
    )


def test_listing_opens_nothing_and_tells_sizes(photos):
    put(photos, "rose/a.jpg")
    dataset = read(photos)
    assert dataset.table["bytes"].to_pylist() == [len(b"not opened")]
    assert dataset.table["digest"].null_count == 1
    assert dataset.table["width"].null_count == 1


def test_folders_in_two_unicode_forms_are_one_class(photos):
    put(photos, "rosé/1.jpg", f"{unicodedata.normalize('NFD', 'rosé')}/2.jpg", "iris/3.jpg")
    dataset = read(photos)
    assert dataset.classes == ("iris", "rosé")
    assert dataset.keep.all()  # each file is still found under its own name


def test_a_class_to_leave_out_may_be_named_in_another_unicode_form(photos):
    put(photos, "rosé/1.jpg", "iris/3.jpg")
    name = unicodedata.normalize("NFD", "rosé")
    assert read(photos, Source(leave_out_classes=(name,))).classes == ("iris",)


def test_a_folder_whose_name_is_not_utf8_is_left_out_and_the_others_are_read(photos):
    put(photos, "iris/1.jpg", "tulip/2.jpg")
    put(photos, os.fsdecode(b"ros\xe9") + "/3.jpg")
    dataset = read(photos)
    assert dataset.classes == ("iris", "tulip")
    assert dataset.notes == ("photos/ros\\xe9 has a name that is not UTF-8: left out.",)


def test_a_folder_within_a_class_whose_name_is_not_utf8_is_left_out(photos):
    put(photos, "iris/1.jpg", "tulip/2.jpg")
    put(photos, "iris/" + os.fsdecode(b"ros\xe9") + "/3.jpg")
    assert reasons(read(photos)) == {"iris/ros\\xe9/3.jpg": "its name is not valid text"}


def test_a_list_written_on_windows_is_read(photos):
    put(photos, "rose/1.jpg", "iris/2.jpg")
    (photos / "list.csv").write_text("path,label\nrose\\1.jpg,rose\niris\\2.jpg,iris\n")
    dataset = read(photos / "list.csv")
    assert dataset.paths == ["rose/1.jpg", "iris/2.jpg"]
    assert dataset.keep.all()


def test_a_backslash_in_the_name_of_a_file_is_left_alone(photos):
    put(photos, "a\\1.jpg")
    (photos / "list.csv").write_text("path,label\na\\1.jpg,rose\n")
    assert read(photos / "list.csv").paths == ["a\\1.jpg"]


def test_a_path_on_a_disk_of_windows_is_left_out_with_its_line(photos):
    put(photos, "1.jpg")
    (photos / "list.csv").write_text("path,label\n1.jpg,rose\nC:\\photos\\1.jpg,rose\n")
    assert reasons(read(photos / "list.csv")) == {
        "C:/photos/1.jpg": "path is on a disk of Windows: make it relative to the list's folder "
        "(line 3)"
    }


def test_a_list_finds_a_file_whose_name_has_another_unicode_form(photos):
    put(photos, f"{unicodedata.normalize('NFD', 'rosé')}/1.jpg")
    (photos / "list.csv").write_text("path,label\nrosé/1.jpg,rose\n")
    assert read(photos / "list.csv").keep.all()


def test_paths_that_lead_out_of_the_folder_are_counted_with_the_setting_that_allows_them(photos):
    put(photos, "1.jpg")
    put(photos.parent, "2.jpg")
    text = f"path,label\n1.jpg,rose\n{photos.parent / '2.jpg'},rose\n"
    (photos / "list.csv").write_text(text)
    dataset = read(photos / "list.csv")
    assert dataset.notes == (
        "list.csv: 1 path leads out of its folder: left out. If you trust this data, set "
        "data.allow_outside to true.",
    )
    assert dataset.shown_root == photos / "list.csv"
    assert read(photos / "list.csv", Source(allow_outside=True)).keep.all()


def test_a_list_of_nothing_but_outside_paths_is_refused_with_the_setting(photos):
    put(photos.parent, "2.jpg")
    (photos / "list.csv").write_text(f"path,label\n{photos.parent / '2.jpg'},rose\n")
    with pytest.raises(DataError, match=r"list\.csv: .*set data\.allow_outside to true"):
        clean(read(photos / "list.csv"))


def test_a_fix_list_keeps_the_bits_of_the_data(photos):
    put(photos, "rose/1.jpg")
    (photos.parent / "fixes.csv").write_text("path,action\nrose\\1.jpg,drop\n")
    source = Source(bits=12, fix_list=photos.parent / "fixes.csv")
    assert read(photos, source).bits == 12


def test_a_file_is_an_image_by_its_content_whatever_its_suffix(photos):
    paint(photos, "rose/1.png", "rose/2.png", "rose/3.bmp", "rose/4.ppm")
    (photos / "rose/1.png").rename(photos / "rose/1")
    (photos / "rose/2.png").rename(photos / "rose/2.20240131")
    (photos / "rose/3.bmp").rename(photos / "rose/3.dat")
    (photos / "rose/4.ppm").rename(photos / "rose/4.dat")
    put(photos, "rose/notes.txt")
    (photos / "rose/P1.txt").write_text("P1: a plan")
    (photos / "rose/BMW").write_text("BMW is a make of cars.")
    (photos / "rose/scan").write_bytes(bytes(128) + b"DICM")
    os.mkfifo(photos / "rose/pipe")
    assert reasons(read(photos)) == {
        "rose/BMW": "not an image file (no suffix)",
        "rose/P1.txt": "not an image file (.txt)",
        "rose/notes.txt": "not an image file (.txt)",
        "rose/pipe": "not an image file (no suffix)",
    }


def test_images_that_differ_in_suffix_only_are_told_in_one_line(photos):
    put(photos, "rose/1.jpg", "rose/1.png", "rose/2.jpg", "rose/2.PNG", "iris/1.jpg", "iris/3.0.5")
    (note,) = read(photos).notes
    assert note == (
        "2 images have a twin of the same name with another suffix, such as rose/1.jpg and "
        "rose/1.png: all are used. Move them away if they are masks or previews."
    )


def test_an_image_that_a_list_names_twice_is_no_twin(photos):
    put(photos, "1.jpg")
    (photos / "list.csv").write_text("path,label\n1.jpg,rose\n1.jpg,rose\n")
    assert not any("twin" in note for note in read(photos / "list.csv").notes)
