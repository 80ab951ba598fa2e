"""Fix lists and clean copies, from the shell."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from acclimate.data.dataset import Dataset


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for number, name in enumerate(f"{c}/{i}.png" for c in ("rose", "daisy") for i in range(5)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def test_a_decision_goes_from_the_list_into_the_data(acclimate, photos, tmp_path):
    (tmp_path / "fixes.csv").write_text("path,suggested_label,action\nrose/1.png,daisy,relabel\n")
    done = acclimate("clean", photos, "-o", "p.parquet", "--fix-list", "fixes.csv")
    assert done.code == 0, done.err
    assert "read: fixes.csv: 1 image relabelled." in done.lines
    made = Dataset.load(tmp_path / "p.parquet")
    assert made.classes[made.labels[made.paths.index("rose/1.png")]] == "daisy"


def test_the_fix_list_is_a_setting_too_and_stands_in_the_recipe(acclimate, photos, tmp_path):
    (tmp_path / "fixes.csv").write_text("path,action\nrose/1.png,drop\n")
    done = acclimate(
        "clean", photos, "-o", "p.parquet", "--set", f"data.fix_list={tmp_path / 'fixes.csv'}"
    )
    assert done.code == 0, done.err
    assert int(Dataset.load(tmp_path / "p.parquet").keep.sum()) == 9
    dry = acclimate("run", "--data", photos, "--fix-list", "fixes.csv", "--dry-run")
    assert f"fix_list: {tmp_path / 'fixes.csv'}" in dry.out


def test_a_mistake_in_the_list_ends_with_2_and_its_line(acclimate, photos, tmp_path):
    (tmp_path / "fixes.csv").write_text("path,action\nrose/1.png,remove\n")
    done = acclimate("clean", photos, "-o", "p.parquet", "--fix-list", "fixes.csv")
    assert done.code == 2
    assert "fixes.csv:2: action 'remove' is unknown." in done.err.replace("\n", " ")
    assert not (tmp_path / "p.parquet").exists()


def test_inspect_and_fixes_write_a_list_that_clean_applies(
    acclimate, workshop, dataset, digits, tmp_path
):
    model, data = workshop.step("probe") / "model", tmp_path / "digits.parquet"
    dataset.save(data)  # enough images of each class for cross-validation
    done = acclimate("inspect", model, data, "-o", "i.parquet", "--set", "label_error=0.3")
    assert done.code == 0, done.err
    assert any(line.endswith("may be wrong") for line in done.lines)
    listed = acclimate("fixes", "i.parquet", "-o", "fixes.csv", "--json", "--quiet")
    assert listed.code == 0, listed.err
    with (tmp_path / "fixes.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert json.loads(listed.out) == {
        "out": "fixes.csv", "fixes": len(rows), "actions": {"review": len(rows)},
    }  # fmt: skip
    assert rows[0]["reason"] == "label error"
    assert rows[0]["suggested_label"]
    applied = acclimate("clean", digits, "-o", "c.parquet", "--fix-list", "fixes.csv", "--quiet")
    assert applied.code == 0, applied.err


def test_a_list_that_was_edited_is_never_written_over(acclimate, workshop, tmp_path):
    (tmp_path / "fixes.csv").write_text("mine")
    data = workshop.step("inspect") / "dataset.parquet"
    done = acclimate("fixes", data, "-o", "fixes.csv")
    assert done.code == 2
    assert "already exists. It may hold your decisions" in done.err
    assert (tmp_path / "fixes.csv").read_text() == "mine"


def test_copy_writes_a_folder_that_reads_back(acclimate, photos, tmp_path):
    assert acclimate("clean", photos, "-o", "p.parquet").code == 0
    done = acclimate("copy", "p.parquet", "-o", "copy")
    assert (done.code, done.out) == (0, "images  copy (10)\n")
    assert acclimate("clean", "copy", "-o", "c.parquet").code == 0
    before, after = (Dataset.load(tmp_path / n) for n in ("p.parquet", "c.parquet"))
    for split in ("train", "val", "test"):
        assert before.counts(split) == after.counts(split)
    again = acclimate("copy", "p.parquet", "-o", "copy")
    assert again.code == 2
    assert "Choose a new folder with --out." in again.err


@pytest.mark.parametrize("name", ["list.csv", "copy.zip", "copy.tar.gz"])
def test_copy_writes_a_list_or_an_archive_by_the_names_ending(acclimate, photos, tmp_path, name):
    assert acclimate("clean", photos, "-o", "p.parquet").code == 0
    done = acclimate("copy", "p.parquet", "-o", name)
    assert (done.code, done.out) == (0, f"images  {name} (10)\n")
    assert acclimate("copy", "p.parquet", "-o", name).code == 2
    assert acclimate("copy", "p.parquet", "-o", name, "--force").code == 0
    assert acclimate("clean", name, "-o", "c.parquet").code == 0
    before, after = (Dataset.load(tmp_path / n) for n in ("p.parquet", "c.parquet"))
    for split in ("train", "val", "test"):
        assert before.counts(split) == after.counts(split)


def test_an_archive_is_data_as_its_folder_is(acclimate, photos, tmp_path):
    shutil.make_archive(str(tmp_path / "photos"), "gztar", tmp_path, "photos")
    assert acclimate("clean", "photos.tar.gz", "-o", "a.parquet").code == 0
    assert acclimate("clean", "photos", "-o", "f.parquet").code == 0
    archived, plain = (Dataset.load(tmp_path / n) for n in ("a.parquet", "f.parquet"))
    assert archived.digest == plain.digest


def test_a_hostile_archive_ends_with_2_and_one_sentence(acclimate, tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        file.writestr("../../evil.png", b"x")
    done = acclimate("clean", "bad.zip", "-o", "p.parquet")
    assert done.code == 2
    told = " ".join(done.err.split())
    assert "archive holds '../../evil.png', a name that leads out of the folder." in told
    assert not (tmp_path / "p.parquet").exists()
