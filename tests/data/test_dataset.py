import os
import resource
import shutil
import unicodedata
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from acclimate.cleaning.clean import clean
from acclimate.data.dataset import FORMAT, HOME, SCHEMA, SPLITS, Dataset, is_saved_dataset
from acclimate.data.sources.read import read
from acclimate.errors import DataError, OutputError

ROOT = Path()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three classes of six images, in folders whose names need care."""
    folder = tmp_path_factory.mktemp("dataset") / "photos"
    rng = np.random.default_rng(0)
    for name in ("Gänse blümchen", "no", "10"):
        (folder / name).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"Bild {i} 🌼.png")
    return folder


@pytest.fixture(scope="module")
def small(photos):
    return clean(read(photos))


def made(rows, classes=("a", "b"), root=ROOT):
    """A data set of some rows; what a row does not say is as `read` leaves it."""
    plain = {"domain": HOME, "bytes": 1, "stamp": 1, "keep": True, "reasons": []}
    table = pa.Table.from_pylist([{**plain, **row} for row in rows], schema=SCHEMA)
    return Dataset(table, tuple(classes), root)


@contextmanager
def no_room_above(limit):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_saved_data_set_comes_back_whole(small, tmp_path):
    noted = Dataset(small.table, small.classes, small.root, ("photos/.git is not a class",))
    noted.save(tmp_path / "new" / "data.parquet")
    again = Dataset.load(tmp_path / "new" / "data.parquet")
    assert again.table.equals(noted.table)
    assert again.classes == ("10", "Gänse blümchen", "no")
    assert again.notes == noted.notes
    assert again.root == small.root
    assert again.digest == small.digest
    assert os.listdir(tmp_path / "new") == ["data.parquet"]


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "path": st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8),
            "label": st.sampled_from(["no", "ü", "1", None]),
            "split": st.sampled_from([*SPLITS, None]),
            "domain": st.sampled_from([HOME, "night"]),
            "group": st.sampled_from([None, "g", ""]),
            "digest": st.none() | st.binary(min_size=16, max_size=16),
            "width": st.none() | st.integers(1, 9000),
            "keep": st.booleans(),
            "reasons": st.lists(st.text(st.characters(exclude_categories=("Cs",))), max_size=2),
            "duplicate_of": st.sampled_from([None, "a.jpg"]),
        }
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_any_rows_come_back_from_the_file(tmp_path_factory, rows):
    folder = tmp_path_factory.getbasetemp()
    dataset = made(rows, ("1", "no", "ü"), folder)
    dataset.save(folder / "any.parquet")
    again = Dataset.load(folder / "any.parquet")
    assert again.table.to_pylist() == dataset.table.to_pylist()
    assert again.digest == dataset.digest
    assert np.array_equal(again.labels, dataset.labels)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_the_digest_does_not_depend_on_how_words_are_numbered(rows, random):
    plain = made(rows, root=ROOT)
    cut = random.randrange(len(rows) + 1)
    halves = [made(part).table for part in (rows[:cut], rows[cut:]) if part]
    assert Dataset(pa.concat_tables(halves), plain.classes, ROOT).digest == plain.digest


CHANGES = {
    "label": "b",
    "split": "test",
    "domain": "night",
    "group": "g",
    "keep": False,
    "digest": b"y" * 16,
    "path": "2.jpg",
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_digest_sees_every_change_that_training_and_evaluation_see(name):
    row = {"path": "1.jpg", "label": "a", "split": "train", "digest": b"x" * 16}
    assert made([{**row, name: CHANGES[name]}]).digest != made([row]).digest


def test_scores_of_labels_have_a_digest_of_their_own():
    row = {"path": "1.jpg", "label": "a", "split": "train", "digest": b"x" * 16}
    plain, scored = made([row]), made([{**row, "label_error": 0.5}])
    assert plain.digest == scored.digest
    assert plain.scores_digest != scored.scores_digest


def test_the_digest_sees_the_order_of_classes():
    row = {"path": "1.jpg", "label": "a", "split": "train", "digest": b"x" * 16}
    assert made([row], ("a", "b")).digest != made([row], ("b", "a")).digest


def test_the_digest_of_read_images_does_not_depend_on_where_or_when_they_were_written(
    small, photos, tmp_path
):
    copied = tmp_path / "elsewhere"
    shutil.copytree(photos, copied, copy_function=shutil.copyfile)
    assert clean(read(copied)).digest == small.digest


def test_the_digest_sees_an_image_that_was_written_anew(small, photos, tmp_path):
    copied = tmp_path / "photos"
    shutil.copytree(photos, copied)
    before = read(copied)
    Image.new("RGB", (9, 9), (1, 2, 3)).save(copied / "no" / "Bild 0 🌼.png")
    assert read(copied).digest != before.digest
    assert clean(read(copied)).digest != small.digest


def test_notes_are_no_part_of_the_digest(small):
    assert Dataset(small.table, small.classes, small.root, ("x",)).digest == small.digest


def test_a_data_set_moved_with_its_images_finds_them(photos, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(photos, old)
    dataset = clean(read(old))
    dataset.save(old / "data.parquet")
    old.rename(tmp_path / "new")
    moved = Dataset.load(tmp_path / "new" / "data.parquet")
    assert moved.path(0) == tmp_path / "new" / dataset.paths[0]
    assert moved.path(0).is_file()
    assert moved.digest == dataset.digest


def test_ids_are_indices_into_the_sorted_classes(small):
    assert small.classes == ("10", "Gänse blümchen", "no")
    for row, path in enumerate(small.paths):
        assert small.classes[small.labels[row]] == path.split("/")[0]
    assert small.labels.dtype == np.int64


def test_what_has_no_label_or_split_has_the_id_minus_one():
    dataset = made([{"path": "1"}, {"path": "2", "label": "b", "split": "val"}])
    assert dataset.labels.tolist() == [-1, 1]
    assert dataset.splits.tolist() == [-1, SPLITS.index("val")]


MIXED = [
    {"path": "0", "label": "a", "split": "train"},
    {"path": "1", "label": "b", "split": "train", "keep": False, "reasons": ["broken"]},
    {"path": "2", "label": "a", "split": "test"},
    {"path": "3", "label": "b", "split": "test", "domain": "night"},
    {"path": "4", "label": "b", "split": "test", "domain": "fog"},
    {"path": "5", "split": "unlabelled"},
    {"path": "6", "label": "b", "split": "train"},
]


@pytest.mark.parametrize(
    ("split", "domain", "rows"),
    [
        ("train", HOME, [0, 6]),
        ("test", HOME, [2]),
        ("test", "night", [3]),
        ("test", None, [2, 3, 4]),
        ("val", HOME, []),
        ("unlabelled", HOME, [5]),
        (None, HOME, [0, 2, 5, 6]),
        (None, None, [0, 2, 3, 4, 5, 6]),
    ],
)
def test_rows_are_the_kept_ones_of_a_split_and_domain_in_order(split, domain, rows):
    assert made(MIXED).rows(split, domain).tolist() == rows


def test_counts_tell_every_class_even_with_no_image():
    dataset = made(MIXED, ("a", "b", "c"))
    assert dataset.counts("train") == {"a": 1, "b": 1, "c": 0}
    assert dataset.counts("test", None) == {"a": 1, "b": 2, "c": 0}
    assert dataset.counts("unlabelled") == {"a": 0, "b": 0, "c": 0}


def test_the_users_own_domain_comes_first():
    assert made(MIXED).domains == (HOME, "fog", "night")
    assert len(made(MIXED)) == 7


def test_columns_are_replaced_in_a_copy():
    dataset = made(MIXED)
    changed = dataset.with_columns({"keep": [True] * 7, "split": [None] * 7, "group": ["g"] * 7})
    assert changed.table.schema.equals(SCHEMA)
    assert changed.keep.all()
    assert set(changed.splits.tolist()) == {-1}
    assert not dataset.keep.all()
    assert changed.paths == dataset.paths


def test_class_ids_follow_the_classifiers_order():
    dataset = made(MIXED, ("a", "b"))
    seen = dataset.with_classes(("b", "z", "a"), "leaf.model")
    assert seen.classes == ("b", "z", "a")
    assert [seen.classes[i] for i in seen.labels if i >= 0] == ["a", "b", "a", "b", "b", "b"]
    assert dataset.with_classes(("a", "b"), "leaf.model") is dataset


def test_a_model_whose_class_names_have_an_older_spelling_still_fits():
    older = unicodedata.normalize("NFD", "rosé")
    rows = [{"path": "0", "label": "rosé", "split": "train"}, {"path": "1", "label": "daisy"}]
    seen = made(rows, ("daisy", "rosé")).with_classes((older, "daisy"), "leaf.model")
    assert seen.classes == (older, "daisy")
    assert seen.labels.tolist() == [0, 1]


def test_a_model_of_other_classes_is_refused_by_name():
    dataset = made(MIXED, ("daisy", "rose"))
    with pytest.raises(DataError) as caught:
        dataset.with_classes(("daisies", "roses"), "leaf.model")
    assert str(caught.value) == (
        "leaf.model: data has classes the model does not know: 'daisy', 'rose'. "
        "Did you mean 'daisies'? "
        "Fine-tune the model on this data first, or leave these classes out with "
        "--set data.leave_out_classes=[...]."
    )


def test_a_model_of_a_thousand_other_classes_offers_none_of_them():
    known = tuple(f"{name} {i}" for i in range(250) for name in ("rosa", "purse", "nose", "crane"))
    with pytest.raises(DataError, match=r"'rose'\. It knows 1,000 others, such as 'rosa 0'\. Fine"):
        made(MIXED, ("daisy", "rose")).with_classes(known, "net")


def test_many_unknown_classes_are_not_all_named():
    with pytest.raises(DataError, match=r"'c0', 'c1', 'c2', 'c3', 'c4', …\."):
        made(MIXED, [f"c{i}" for i in range(9)]).with_classes(("x",), "leaf.model")


def test_a_full_disk_leaves_the_old_data_set_and_no_half_of_the_new(small, tmp_path):
    path = tmp_path / "data.parquet"
    small.save(path)
    other = small.with_columns({"keep": [False] * len(small)})
    with no_room_above(500), pytest.raises(OutputError, match=r"cannot write here \(file too la"):
        other.save(path)
    assert Dataset.load(path).digest == small.digest
    assert os.listdir(tmp_path) == ["data.parquet"]


def with_metadata(dataset, path, **changes):
    """A saved data set with some of its metadata changed, as a stranger might."""
    dataset.save(path)
    table = pq.read_table(path)
    meta = dict(table.schema.metadata)
    meta.update({f"acclimate.{key}".encode(): value for key, value in changes.items()})
    pq.write_table(table.replace_schema_metadata(meta), path)
    return path


def test_a_data_set_of_a_newer_format_is_refused(small, tmp_path):
    path = with_metadata(small, tmp_path / "d.parquet", format=str(FORMAT + 1).encode())
    with pytest.raises(DataError) as caught:
        Dataset.load(path)
    assert str(caught.value) == (
        f"{path}: data set was written by a newer acclimate. Upgrade acclimate."
    )


@pytest.mark.parametrize("changes", [{"format": b"x"}, {"classes": b"{"}, {"notes": b"5"}])
def test_a_data_set_with_malformed_metadata_is_refused(small, tmp_path, changes):
    path = with_metadata(small, tmp_path / "d.parquet", **changes)
    with pytest.raises(DataError) as caught:
        Dataset.load(path)
    assert caught.value.where == str(path)


def test_a_data_set_without_a_column_is_refused(small, tmp_path):
    path = tmp_path / "d.parquet"
    small.save(path)
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["label"]), path)
    with pytest.raises(DataError) as caught:
        Dataset.load(path)
    assert caught.value.where == str(path)


def test_a_list_is_not_a_saved_data_set(tmp_path):
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"path": ["a.jpg"], "label": ["a"]}), path)
    assert not is_saved_dataset(path)
    with pytest.raises(DataError) as caught:
        Dataset.load(path)
    assert str(caught.value) == (
        f"{path}: Parquet file is not a data set that acclimate wrote. "
        "Give it as a list with the columns path, label and split."
    )


@pytest.mark.parametrize("content", [b"", b"PAR1", b"path,label\n"])
def test_what_is_no_parquet_is_refused(tmp_path, content):
    path = tmp_path / "d.parquet"
    path.write_bytes(content)
    assert not is_saved_dataset(path)
    with pytest.raises(DataError, match="file cannot be read as Parquet"):
        Dataset.load(path)


def test_a_missing_data_set_is_told(tmp_path):
    with pytest.raises(DataError, match="file cannot be read as Parquet"):
        Dataset.load(tmp_path / "no.parquet")


def test_only_a_file_that_was_saved_is_a_saved_data_set(small, tmp_path):
    small.save(tmp_path / "d.parquet")
    assert is_saved_dataset(tmp_path / "d.parquet")
    assert not is_saved_dataset(tmp_path)
    assert not is_saved_dataset(tmp_path / "no.parquet")
    shutil.copy(tmp_path / "d.parquet", tmp_path / "d.csv")
    assert not is_saved_dataset(tmp_path / "d.csv")


def test_a_table_that_was_saved_before_a_column_came_is_still_read(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)
    dataset = read(tmp_path)
    dataset.save(tmp_path / "new.parquet")
    table = pq.read_table(tmp_path / "new.parquet")
    meta = {**table.schema.metadata, b"acclimate.format": b"1"}
    pq.write_table(
        table.drop_columns("orientation").replace_schema_metadata(meta), tmp_path / "old.parquet"
    )
    old = Dataset.load(tmp_path / "old.parquet")
    assert old.table.schema.equals(SCHEMA)
    assert old.table["orientation"].null_count == len(old) == 1
    assert old.digest == dataset.digest
