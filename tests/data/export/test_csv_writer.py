"""Archives and lists that are written: read again, they say the same."""

import csv
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from acclimate.cleaning.clean import clean
from acclimate.context import Context
from acclimate.data.export.copy_images import copy_images
from acclimate.data.settings import Source
from acclimate.data.sources.archive_reader import ARCHIVE_SUFFIXES
from acclimate.data.sources.read import read
from acclimate.errors import OutputError, UnreadableImage
from kit import Recorder


def paint(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(number).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(small).resize((48, 32), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def photos(tmp_path):
    """Two classes in PNG and JPEG, one file broken, one beside them without a label."""
    folder = tmp_path / "photos"
    for number, label in enumerate(("rose", "daisy, wild")):
        for i in range(6):
            paint(folder / label / f"{i}.{'jpg' if i % 2 else 'png'}", 10 * number + i)
    (folder / "rose" / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def dataset(photos):
    return clean(read(photos))


def said(dataset):
    """Label and split of each kept image, by its name in its class."""
    columns = (dataset.table[name].to_pylist() for name in ("path", "label", "split", "keep"))
    return {
        (path.rsplit("/", 1)[-1], label): split
        for path, label, split, keep in zip(*columns, strict=True)
        if keep
    }


@pytest.mark.parametrize("ending", ARCHIVE_SUFFIXES)
def test_an_archive_reads_back_with_the_same_labels_splits_and_pixels(dataset, tmp_path, ending):
    place = tmp_path / f"copy{ending}"
    assert copy_images(dataset, place, lossless=True) == 12
    back = clean(read(place))
    assert back.notes == dataset.notes
    assert back.classes == dataset.classes
    stems = {(name.split(".")[0], label): split for (name, label), split in said(back).items()}
    assert stems == {(n.split(".")[0], label): split for (n, label), split in said(dataset).items()}
    kept = [set(d.table["digest"].filter(d.table["keep"]).to_pylist()) for d in (back, dataset)]
    assert not kept[0] & kept[1], "written anew"
    pngs = [row for row in dataset.rows().tolist() if dataset.paths[row].endswith("png")]
    before = {dataset.table["pixels"][row].as_py() for row in pngs}
    assert before <= set(back.table["pixels"].to_pylist())


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tgz", ".tar.xz"])
def test_an_archive_of_the_same_images_is_the_same_file(dataset, tmp_path, ending):
    copy_images(dataset, tmp_path / f"a{ending}")
    copy_images(dataset, tmp_path / f"b{ending}")
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


def test_the_ending_says_the_kind(dataset, tmp_path):
    for ending in (".zip", ".tar", ".tar.gz"):
        copy_images(dataset, tmp_path / f"copy{ending}")
    assert zipfile.ZipFile(tmp_path / "copy.zip").testzip() is None
    for name, mode in (("copy.tar", "r:"), ("copy.tar.gz", "r:gz")):
        with tarfile.open(tmp_path / name, mode) as file:
            assert file.getnames()[-1] == "metadata.csv"


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_a_list_reads_back_with_the_same_images_labels_and_splits(dataset, tmp_path, ending):
    place = tmp_path / f"list{ending}"
    assert copy_images(dataset, place) == 12
    back = clean(read(place))
    assert back.notes == dataset.notes
    assert said(back) == said(dataset)
    assert "photos/rose/0.png" in back.paths
    digests = [set(d.table["digest"].filter(d.table["keep"]).to_pylist()) for d in (back, dataset)]
    assert digests[0] == digests[1]


def test_a_list_elsewhere_has_absolute_paths_and_says_how_to_read_it(dataset, photos, tmp_path):
    recorder = Recorder()
    place = tmp_path / "elsewhere" / "list.csv"
    copy_images(dataset, place, context=Context(progress=recorder))
    assert recorder.lines == [
        "copy: 12 images outside the list's folder, listed by absolute path. "
        "Read the list with --set data.allow_outside=true."
    ]
    with place.open(encoding="utf-8") as stream:
        assert {row["path"].startswith(f"{photos}/") for row in csv.DictReader(stream)} == {True}
    back = clean(read(place, Source(allow_outside=True)))
    assert said(back) == said(dataset)


def test_groups_and_images_without_labels_come_back(tmp_path):
    lines = ["path,label,split,group"]
    for i in range(12):
        paint(tmp_path / f"{i}.png", i)
        lines.append(f"{i}.png,{'ab'[i % 2] if i < 8 else ''},{'' if i < 8 else 'unlabelled'},g{i}")
    (tmp_path / "first.csv").write_text("\n".join(lines))
    dataset = clean(read(tmp_path / "first.csv"))
    copy_images(dataset, tmp_path / "again.csv")
    copy_images(dataset, tmp_path / "again.zip")
    for name in ("again.csv", "again.zip"):
        back = clean(read(tmp_path / name))
        seen = [
            sorted(
                zip(*(d.table[n].to_pylist() for n in ("group", "label", "split")), strict=True),
                key=str,
            )
            for d in (back, dataset)
        ]
        assert seen[0] == seen[1]


@pytest.mark.parametrize("name", ["mine.csv", "mine.tar.gz"])
def test_what_stands_there_is_replaced_only_by_force(dataset, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=r"already exists.*--force"):
        copy_images(dataset, tmp_path / name)
    assert (tmp_path / name).read_text() == "mine"
    assert copy_images(dataset, tmp_path / name, force=True) == 12
    assert said(clean(read(tmp_path / name))).keys()


@pytest.mark.parametrize("name", ["mine.csv", "mine.zip"])
def test_a_folder_is_never_replaced_by_a_file(dataset, tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(OutputError, match="was not written by acclimate"):
        copy_images(dataset, tmp_path / name, force=True)


def test_force_replaces_no_folder(dataset, photos):
    with pytest.raises(OutputError, match="already exists"):
        copy_images(dataset, photos, force=True)
    assert (photos / "rose" / "0.png").exists()


def test_other_endings_and_lossless_lists_are_refused(dataset, tmp_path):
    with pytest.raises(OutputError, match="a copy is not a Parquet table"):
        copy_images(dataset, tmp_path / "copy.parquet")
    with pytest.raises(OutputError, match="a list leaves the images as they are"):
        copy_images(dataset, tmp_path / "copy.csv", lossless=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photos"]


def test_a_failure_on_the_way_leaves_the_old_archive(dataset, photos, tmp_path):
    copy_images(dataset, tmp_path / "copy.zip")
    before = (tmp_path / "copy.zip").read_bytes()
    (photos / "rose" / "2.png").write_bytes(b"broken since")
    with pytest.raises(UnreadableImage):
        copy_images(dataset, tmp_path / "copy.zip", force=True)
    assert (tmp_path / "copy.zip").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy.zip", "photos"]
