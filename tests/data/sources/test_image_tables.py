"""Parquet tables with the images inside, as Hugging Face publishes them."""

import io
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from acclimate.cleaning.clean import clean
from acclimate.data.export.copy_images import copy_images
from acclimate.data.settings import Source
from acclimate.data.sources import unpacked
from acclimate.data.sources.read import read
from acclimate.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def png(seed):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(path, rows, names=None, schema=None):
    """A table with Hugging Face's metadata, if there are names of classes."""
    table = pa.Table.from_pylist(rows, schema)
    if names is not None:
        label = {"names": names, "_type": "ClassLabel"}
        features = {"image": {"_type": "Image"}, "label": label}
        facts = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": facts})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def rows(start, stop, **more):
    return [
        {"image": {"bytes": png(i), "path": f"x/{i}.jpg"}, "label": i % 2, **more}
        for i in range(start, stop)
    ]


def column(dataset, name):
    return dataset.table[name].to_pylist()


def refusal(place, **source):
    with pytest.raises(DataError) as caught:
        read(place, Source(**source))
    return str(caught.value)


@pytest.fixture
def hub(tmp_path):
    """A data set of several shards, as it is published."""
    folder = tmp_path / "set"
    write(folder / "data/train-00000-of-00002.parquet", rows(0, 8), ["cat", "dog"])
    write(folder / "data/train-00001-of-00002.parquet", rows(8, 12), ["cat", "dog"])
    write(folder / "data/validation-00000-of-00001.parquet", rows(12, 16), ["cat", "dog"])
    write(folder / "data/test-00000-of-00001.parquet", rows(16, 20), ["cat", "dog"])
    (folder / "README.md").write_text("# A data set")
    (folder / ".git").mkdir()
    return folder


def test_a_folder_of_shards_has_splits_and_the_names_of_its_classes(hub):
    dataset = clean(read(hub))
    assert dataset.classes == ("cat", "dog")
    assert column(dataset, "split") == ["test"] * 4 + ["train"] * 12 + ["val"] * 4
    assert column(dataset, "label")[:3] == ["cat", "dog", "cat"]
    assert dataset.keep.all()
    assert dataset.path(4).read_bytes() == png(0)
    assert dataset.paths[4] == "train/0000001-0.png"  # its old name, and the suffix of its content
    assert dataset.shown_root == hub


@pytest.mark.parametrize("name", ["train/0000.parquet", "text/train-0.parquet", "train.parquet"])
def test_the_split_is_in_the_name_of_the_file_or_of_its_folder(tmp_path, name):
    write(tmp_path / "set" / name, rows(0, 4))
    assert column(read(tmp_path / "set"), "split") == ["train"] * 4


def test_a_single_file_is_read_with_numbers_for_classes(tmp_path):
    dataset = read(write(tmp_path / "all.parquet", rows(0, 4)))
    assert dataset.classes == ("0", "1")
    assert column(dataset, "split") == [None] * 4


def test_a_column_of_bytes_is_a_column_of_images(tmp_path):
    found = [{"picture": png(i), "thumbnail": b"x", "class": "rose"} for i in range(3)]
    dataset = read(write(tmp_path / "all.parquet", found))
    assert dataset.path(2).read_bytes() == png(2)
    assert dataset.classes == ("rose",)


def test_a_column_of_splits_and_groups_is_used(tmp_path):
    found = [*rows(0, 2, split="validation", group=7), *rows(2, 4, split=None, group=None)]
    dataset = read(write(tmp_path / "train.parquet", found))
    assert column(dataset, "split") == ["val", "val", "train", "train"]
    assert column(dataset, "group") == ["7", "7", None, None]


def test_a_secret_label_leaves_an_image_unlabelled(tmp_path):
    found = [*rows(0, 2), {"image": {"bytes": png(2), "path": None}, "label": -1}]
    dataset = read(write(tmp_path / "test.parquet", found, ["cat", "dog"]))
    assert column(dataset, "split") == ["test", "test", "unlabelled"]
    assert column(dataset, "label")[2] is None


def test_an_image_that_is_a_path_only_is_left_out_and_never_opened(tmp_path):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", kind), ("label", pa.int64())])
    found = [*rows(0, 1), {"image": {"bytes": None, "path": "/etc/passwd"}, "label": 1}]
    dataset = read(write(tmp_path / "all.parquet", found, schema=schema))
    assert column(dataset, "reasons") == [[], ["the table holds no image for it"]]


def test_the_images_are_written_once_and_have_the_same_digest(hub, cache):
    first = read(hub)
    times = [path.stat().st_ctime_ns for path in cache.rglob("*.png")]
    assert read(hub).digest == first.digest
    assert [path.stat().st_ctime_ns for path in cache.rglob("*.png")] == times


def test_a_clean_copy_of_a_table_is_a_folder_of_images(hub, tmp_path):
    assert copy_images(clean(read(hub)), tmp_path / "copy") == 20
    assert len(read(tmp_path / "copy")) == 20


def test_the_size_of_a_table_is_limited(hub, cache):
    told = refusal(hub, max_unpacked_gb=1e-6)
    assert told.startswith(f"{hub}: table holds more than 0 MB of images, or than there is room")
    assert not list(cache.rglob("*.png"))


def test_a_large_image_repeated_in_a_small_table_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacked, "MIN_SIZE_LIMIT", 1 << 20)
    noise = np.random.default_rng(0).bytes(100_000)
    path = write(tmp_path / "all.parquet", [{"image": noise, "label": 1}] * 1_000)
    assert path.stat().st_size < 400_000
    assert "table holds more than " in refusal(path)


def test_many_empty_images_in_a_small_table_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacked, "_MIN_FILE_LIMIT", 50)
    path = write(tmp_path / "all.parquet", [{"image": b"", "label": 1}] * 5_000)
    assert "images, too many for its size." in refusal(path)


def test_a_label_without_a_name_is_refused_with_its_row(tmp_path):
    path = write(tmp_path / "all.parquet", [*rows(0, 2), *rows(3, 4)], ["cat"])
    assert refusal(path) == f"{path}: row 2: label 1 has no name: there are 1 classes."


def test_several_labels_of_an_image_are_refused(tmp_path):
    path = write(tmp_path / "all.parquet", [{"image": png(0), "label": [1, 2]}])
    assert "column 'label' holds list<" in refusal(path)


def test_several_columns_of_images_are_refused_by_name(tmp_path):
    path = write(tmp_path / "all.parquet", [{"left": png(0), "right": png(1)}])
    assert "several columns may be the images: 'left', 'right'. Rename" in refusal(path)


def test_several_data_sets_in_a_folder_are_refused_by_name(tmp_path):
    for name in ("fine", "coarse"):
        write(tmp_path / "set" / name / "train-0.parquet", rows(0, 2))
    assert "folder holds several data sets: 'coarse', 'fine'. Give one" in refusal(tmp_path / "set")


def test_a_link_out_of_the_folder_is_followed_if_it_is_allowed(hub, tmp_path):
    path = hub / "data/test-00000-of-00001.parquet"
    os.rename(path, tmp_path / "blob")
    path.symlink_to(tmp_path / "blob")
    assert "data.allow_outside" in refusal(hub)
    assert len(read(hub, Source(allow_outside=True))) == 20


@pytest.mark.parametrize(
    "facts", [b"{", b"[]", b'{"info": {"features": []}}', b'{"info": {"features": {"label": 3}}}']
)
def test_metadata_of_another_form_gives_no_names(tmp_path, facts):
    table = pa.Table.from_pylist(rows(0, 2)).replace_schema_metadata({b"huggingface": facts})
    pq.write_table(table, tmp_path / "all.parquet")
    assert read(tmp_path / "all.parquet").classes == ("0", "1")


def test_class_folders_with_a_table_beside_them_stay_a_folder(tmp_path):
    for label in ("rose", "iris"):
        (tmp_path / "set" / label).mkdir(parents=True)
        (tmp_path / "set" / label / "1.png").write_bytes(png(1))
    write(tmp_path / "set" / "list.parquet", [{"path": "rose/1.png", "label": "rose"}])
    assert read(tmp_path / "set").classes == ("iris", "rose")
