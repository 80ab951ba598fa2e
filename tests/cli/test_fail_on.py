"""`--json` carries the counts of a data set, and `--fail-on` stops CI."""

import json
import shutil

import pytest

from acclimate.data.dataset import Dataset
from kit import paint


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for number, name in enumerate(
        f"{s}/{c}/{i}.png" for s in ("train", "test") for c in ("rose", "daisy") for i in range(5)
    ):
        paint(folder / name, number)
    return folder


def leak(photos):
    shutil.copy(photos / "test" / "rose" / "0.png", photos / "train" / "rose" / "leak.png")


def test_the_counts_are_in_the_json_and_add_up(acclimate, photos):
    leak(photos)
    (photos / "train" / "rose" / "broken.png").write_bytes(b"")
    done = acclimate("clean", photos, "-o", "p.parquet", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found | {"digest": ""} == {
        "out": "p.parquet",
        "digest": "",
        "images": 22,
        "kept": 20,
        "splits": {"train": 8, "val": 2, "test": 10},
        "left_out": {"leak": 1, "unreadable": 1},
        "flags": {"leak": 1},
        "notes": [],
    }
    assert found["images"] == found["kept"] + sum(found["left_out"].values())
    assert found["kept"] == sum(found["splits"].values())


def test_a_leak_ends_with_3_after_the_result_is_written(acclimate, photos, tmp_path):
    done = acclimate("clean", photos, "-o", "p.parquet", "--fail-on", "leak,label_conflict")
    assert done.code == 0, done.err
    leak(photos)
    done = acclimate("clean", photos, "-o", "q.parquet", "--fail-on", "leak,label_conflict")
    assert done.code == 3
    assert done.out == "dataset  q.parquet\n"
    assert done.lines[-1] == "error: 1 image has a flag of --fail-on (leak: 1)."
    assert len(Dataset.load(tmp_path / "q.parquet")) == 21


def test_leak_means_every_kind_of_leak(acclimate, photos, tmp_path):
    done = acclimate(
        "clean", photos, "-o", "p.parquet", "--json", "--fail-on", "leak",
        "--set", r"data.group_from=(rose|\d)",
    )  # fmt: skip
    assert done.code == 2  # all roses are of one group, and the fifth daisy of each split too
    done = acclimate(
        "clean", photos, "-o", "p.parquet", "--json", "--fail-on", "leak",
        "--set", "data.group_from=(rose/[01])", "--set", "clean.val=0",
    )  # fmt: skip
    assert done.code == 3
    assert json.loads(done.out)["left_out"] == {"group_leak": 2}
    assert json.loads(done.lines[-1])["code"] == "not-clean"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("leek", "--fail-on: 'leek' is not a flag. Did you mean 'leak'?"),
        ("", "--fail-on names no flag. Example: --fail-on leak,label_conflict."),
    ],
)
def test_a_flag_that_is_none_is_refused_before_the_work(
    acclimate, photos, tmp_path, flags, message
):
    done = acclimate("clean", photos, "-o", "p.parquet", "--fail-on", flags)
    assert done.code == 2
    assert message in done.err.replace("\n", " ")
    assert not (tmp_path / "p.parquet").exists()
