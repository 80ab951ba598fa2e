"""What every source keeps: the same 12 images give the same classes, labels and files."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from acclimate.cleaning.clean import clean
from acclimate.data.dataset import HOME, SCHEMA
from acclimate.data.sources.read import SOURCES, read

CLASSES = ("10", "9", "Gänse blümchen", "no")
NAMES = tuple(f"{label}/Bild {i} 🌼.png" for label in CLASSES for i in range(3))
SPLITS = ("train", "val", "test")


def as_folder(images, records):
    return images


def as_csv(images, records):
    path = images / "list.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
    return path


def as_parquet(images, records):
    path = images / "list.parquet"
    pq.write_table(pa.Table.from_pylist(records), path)
    return path


def as_imagefolder(images, records):
    with (images / "metadata.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(records[0]))
        writer.writerow({**{name: name for name in records[0]}, "path": "file_name"})
        writer.writerows(records)
    return images


def as_saved(images, records):
    path = images / "saved.parquet"
    read(as_csv(images, records)).save(path)
    return path


ARRANGED = {
    "folder": as_folder,
    "imagefolder": as_imagefolder,
    "csv": as_csv,
    "parquet": as_parquet,
    "saved": as_saved,
}


def paint(folder, names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    paint(folder, NAMES)
    return folder


def arranged(kind, images, records=None):
    plain = [{"path": name, "label": name.split("/")[0]} for name in NAMES]
    return read(ARRANGED[kind](images, records or plain))


def files(dataset):
    """The file of each row, with its label."""
    return {
        dataset.path(row).resolve(): dataset.classes[dataset.labels[row]]
        for row in range(len(dataset))
    }


def test_every_source_is_tried():
    assert set(ARRANGED) == set(SOURCES)
    assert len(NAMES) == 12


each_source = pytest.mark.parametrize("kind", SOURCES)


@each_source
def test_a_source_reads_the_same_classes_labels_and_files(kind, images):
    dataset = arranged(kind, images)
    assert dataset.classes == CLASSES
    assert files(dataset) == {(images / name).resolve(): name.split("/")[0] for name in NAMES}
    assert len(dataset) == 12
    assert dataset.keep.all()
    assert dataset.notes == ()
    assert dataset.domains == (HOME,)
    assert dataset.table.schema.equals(SCHEMA)


@each_source
def test_a_source_opens_no_image_and_assigns_no_split(kind, images):
    for name in NAMES:
        (images / name).write_bytes(b"not an image")
    dataset = arranged(kind, images)
    assert set(dataset.splits.tolist()) == {-1}
    for column in ("digest", "width", "height"):
        assert dataset.table[column].null_count == 12


@each_source
def test_a_source_gives_the_digest_that_a_folder_gives(kind, images):
    assert clean(arranged(kind, images)).digest == clean(arranged("folder", images)).digest


@each_source
def test_a_source_reads_given_splits(kind, tmp_path):
    images = tmp_path / "images"
    names = [f"{s}/{label}/{i}.png" for s in sorted(SPLITS) for label in "ab" for i in range(2)]
    paint(images, names)
    records = [
        {"path": name, "label": name.split("/")[1], "split": name.split("/")[0]} for name in names
    ]
    dataset = arranged(kind, images, records)
    assert len(dataset) == 12
    assert dataset.classes == ("a", "b")
    for split in SPLITS:
        assert dataset.counts(split) == {"a": 2, "b": 2}
    assert clean(dataset).digest == clean(read(images)).digest


@each_source
def test_a_source_reads_the_same_twice(kind, images):
    first, second = arranged(kind, images), arranged(kind, images)
    assert first.table.equals(second.table)
    assert first.digest == second.digest


@each_source
def test_a_source_lists_a_bad_file_and_reads_the_others(kind, images):
    (images / NAMES[4]).write_bytes(b"")
    dataset = clean(arranged(kind, images))
    assert int(dataset.keep.sum()) == 11
    (row,) = np.flatnonzero(~dataset.keep)
    assert dataset.path(int(row)).resolve() == (images / NAMES[4]).resolve()
    assert dataset.table["reasons"][int(row)].as_py() == ["file is empty (0 bytes)"]


@each_source
def test_a_source_never_opens_what_lies_outside(kind, images, tmp_path):
    paint(tmp_path, ["secret.png"])
    (images / "no" / "link.png").symlink_to(tmp_path / "secret.png")
    records = [{"path": name, "label": name.split("/")[0]} for name in (*NAMES, "no/link.png")]
    dataset = clean(arranged(kind, images, records))
    row = dataset.paths.index("no/link.png")
    assert not dataset.keep[row]
    assert dataset.table["digest"][row].as_py() is None
