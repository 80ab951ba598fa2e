from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from acclimate.cleaning.clean import clean
from acclimate.cleaning.duplicates.near import near_duplicates
from acclimate.cleaning.settings import Clean
from acclimate.cleaning.summary import drop_reasons
from acclimate.context import Context
from acclimate.data.dataset import HOME, SCHEMA, Dataset
from acclimate.data.sources.read import read

CLASSES = ("ant", "bee")


def picture(number):
    rng = np.random.default_rng([77, number])
    small = Image.fromarray(rng.integers(0, 256, (7, 7), dtype=np.uint8))
    return np.asarray(small.resize((16, 16), Image.Resampling.BICUBIC))


def made(rows):
    plain = {
        "domain": HOME, "bytes": 1, "stamp": 1, "keep": True, "reasons": [], "flags": [],
        "label": "ant", "width": 20, "height": 20,
    }  # fmt: skip
    table = pa.Table.from_pylist(
        [
            {
                **plain,
                "path": f"{i:02}.jpg",
                **row,
                "thumbnail": shown(row["shows"], i, turned=row.get("turned", False)),
            }
            for i, row in enumerate(rows)
        ],
        schema=pa.schema([f for f in SCHEMA]),
    )
    return Dataset(table, CLASSES, Path())


def shown(number, seed, *, turned):
    if number is None:
        return None
    noise = np.random.default_rng(seed).integers(-2, 3, (16, 16))
    image = np.rot90(picture(number)) if turned else picture(number)
    return np.clip(image + noise, 0, 255).astype(np.uint8).tobytes()


def judged(*rows, settings=None):
    """One row as a dict for each row given as keywords."""
    return near_duplicates(made(rows), settings or Clean(), Context()).table.to_pylist()


def test_a_near_duplicate_is_flagged_and_kept_and_names_the_largest():
    small, other, large = judged({"shows": 1}, {"shows": 2}, {"shows": 1, "width": 90})
    assert (small["keep"], small["flags"]) == (True, ["near_duplicate"])
    assert (small["duplicate_of"], large["duplicate_of"]) == ("02.jpg", None)
    assert small["cluster"] == large["cluster"] == 0
    assert small["near_duplicate"] == large["near_duplicate"] > 0.98
    assert large["flags"] == []
    assert (other["cluster"], other["near_duplicate"], other["flags"]) == (None, None, [])


@pytest.mark.parametrize(
    ("stays", "goes"),
    [("test", "train"), ("val", "train"), ("test", "val"), ("train", "unlabelled")],
)
def test_of_near_duplicates_in_two_splits_the_one_that_judges_stays(stays, goes):
    first, second = judged({"shows": 1, "split": goes, "width": 90}, {"shows": 1, "split": stays})
    assert (first["keep"], second["keep"]) == (False, True)
    assert first["reasons"] == [f"leak: same picture as 01.jpg in {stays}"]
    assert first["flags"] == ["near_leak", "near_duplicate"]
    assert second["flags"] == []


def test_the_policy_may_keep_a_leak_and_only_flag_it():
    rows = [{"shows": 1, "split": "train"}, {"shows": 1, "split": "test"}]
    first, _ = judged(*rows, settings=Clean(drop=()))
    assert (first["keep"], first["reasons"]) == (True, [])
    assert "near_leak" in first["flags"]


def test_images_without_a_split_do_not_leak():
    first, second = judged({"shows": 1}, {"shows": 1, "split": "test"})
    assert first["keep"]
    assert first["flags"] == ["near_duplicate"]
    assert second["flags"] == []


def test_what_looks_alike_with_another_label_is_a_conflict_and_no_leak():
    rows = judged(
        {"shows": 1, "split": "train"}, {"shows": 1, "label": "bee", "split": "test"}, {"shows": 2}
    )
    assert [row["flags"] for row in rows] == [["near_label_conflict"]] * 2 + [[]]
    assert [row["keep"] for row in rows] == [True] * 3
    assert [row["duplicate_of"] for row in rows] == [None] * 3
    assert rows[0]["cluster"] == rows[1]["cluster"]


def test_a_conflict_that_is_dropped_names_what_it_looks_like():
    wanted = Clean(drop=("near_label_conflict",))
    first, second = judged({"shows": 1}, {"shows": 1, "label": "bee"}, settings=wanted)
    assert first["reasons"] == ["looks like 01.jpg with label 'bee'"]
    assert second["reasons"] == ["looks like 00.jpg with label 'ant'"]


def test_of_a_cluster_with_two_labels_each_label_has_its_own_leaks():
    rows = judged(
        {"shows": 1, "split": "test"},
        {"shows": 1, "split": "train"},
        {"shows": 1, "split": "val", "label": "bee"},
        {"shows": 1, "split": "train", "label": "bee"},
        {"shows": 1, "split": "unlabelled", "label": None},
    )
    assert [row["keep"] for row in rows] == [True, False, True, False, False]
    assert rows[3]["reasons"] == ["leak: same picture as 02.jpg in val"]
    assert rows[4]["reasons"] == ["leak: same picture as 00.jpg in test"]


def test_turned_copies_stay_together_and_are_told_unless_their_label_differs():
    rows = [{"shows": i, "split": "train"} for i in range(8)]
    rows += [{"shows": i, "turned": True, "split": "test"} for i in range(3)]
    rows += [{"shows": 3, "turned": True, "split": "test", "label": "bee"}]
    after = near_duplicates(made(rows), Clean(), Context())
    assert after.keep.tolist() == [False] * 3 + [True] * 9
    assert after.table["cluster"].to_pylist() == [0, 1, 2, *[None] * 5, 0, 1, 2, None]
    assert after.table["reasons"][0].as_py() == ["leak: same picture as 08.jpg in test"]
    assert after.notes == (
        "clean: 3 of 12 images are mirrored or turned copies of others: the data was probably "
        "augmented before. Where no split is given, all copies stay in one.",
    )


def test_what_was_left_out_or_not_looked_at_or_is_of_another_domain_is_not_compared():
    rows = judged(
        {"shows": 1},
        {"shows": 1, "keep": False, "reasons": ["mine"]},
        {"shows": None},
        {"shows": 1, "domain": "night", "split": "test"},
    )
    assert [row["cluster"] for row in rows] == [None] * 4
    assert [row["flags"] for row in rows] == [[]] * 4


def test_a_higher_likeness_asks_more():
    rows = [{"shows": 1}, {"shows": 1}]
    likeness = judged(*rows)[0]["near_duplicate"]
    higher = Clean(near_duplicate=(1 + likeness) / 2)
    assert judged(*rows, settings=higher)[0]["cluster"] is None


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "shows": st.integers(0, 3) | st.none(),
            "label": st.sampled_from([*CLASSES, None]),
            "split": st.sampled_from(["train", "val", "test", "unlabelled", None]),
        }
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_clusters_are_the_pictures_and_nothing_that_trains_shows_what_judges(rows):
    after = judged(*rows)
    for i, row in enumerate(rows):
        same = [j for j, other in enumerate(rows) if other["shows"] == row["shows"] is not None]
        assert after[i]["cluster"] == (min(same) if len(same) > 1 else None)
        labels = {row["label"], None}
        alike = [j for j in same if row["label"] is None or rows[j]["label"] in labels]
        judges = {rows[j]["split"] for j in alike if after[j]["keep"] and after[i]["keep"]}
        assert len(judges - {None}) <= 1


def paint(path, number, change=None):
    rng = np.random.default_rng([5, number])
    small = Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8))
    image = small.resize((160, 120), Image.Resampling.BICUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    (change(image) if change else image).save(path)


CHANGES = {
    "half": lambda i: i.resize((80, 60)),
    "crop": lambda i: i.crop((8, 6, 152, 114)),
    "corner": lambda i: i.crop((0, 0, 144, 108)),
    "dark": lambda i: ImageEnhance.Brightness(i).enhance(0.7),
    "bright": lambda i: ImageEnhance.Brightness(i).enhance(1.3),
}


@pytest.fixture
def photos(tmp_path):
    """Two splits of two classes; training images show test images, changed."""
    for split in ("train", "test"):
        for label in CLASSES:
            for i in range(8):
                number = i + 100 * (split == "test") + 1000 * (label == "bee")
                paint(tmp_path / split / label / f"{i}.png", number)
    for i, (name, change) in enumerate(CHANGES.items()):
        paint(tmp_path / "train" / "ant" / f"{name}.png", 100 + i, change)
    (tmp_path / "train" / "ant" / "coarse.jpg").parent.mkdir(exist_ok=True)
    with Image.open(tmp_path / "test" / "ant" / "7.png") as image:
        image.save(tmp_path / "train" / "ant" / "coarse.jpg", quality=30)
    return tmp_path


def test_every_light_change_of_a_test_image_is_kept_out_of_training(photos):
    dataset = clean(read(photos))
    assert sorted(drop_reasons(dataset, 10)) == [
        "train/ant/bright.png: leak: same picture as test/ant/4.png in test",
        "train/ant/coarse.jpg: leak: same picture as test/ant/7.png in test",
        "train/ant/corner.png: leak: same picture as test/ant/2.png in test",
        "train/ant/crop.png: leak: same picture as test/ant/1.png in test",
        "train/ant/dark.png: leak: same picture as test/ant/3.png in test",
        "train/ant/half.png: leak: same picture as test/ant/0.png in test",
    ]
    assert dataset.counts("test") == {"ant": 8, "bee": 8}


def test_mirror_images_and_rotations_are_found_unless_they_are_turned_off(photos):
    paint(photos / "train" / "bee" / "mirror.png", 1000, lambda i: i.transpose(0))
    paint(photos / "train" / "bee" / "turned.png", 1001, lambda i: i.transpose(2))
    names = ["train/bee/mirror.png", "train/bee/turned.png"]
    for mirrored, rotated in ((True, True), (True, False), (False, False)):
        wanted = Clean(mirrored=mirrored, rotated=rotated)
        dataset = clean(read(photos), wanted)
        clusters = dataset.table["cluster"].to_pylist()
        found = [clusters[dataset.paths.index(name)] is not None for name in names]
        assert found == [wanted.mirrored, wanted.rotated]


def test_the_digits_have_no_near_duplicates(dataset):
    assert dataset.table["cluster"].null_count == len(dataset)


def test_thumbnails_do_not_stay_in_the_table(dataset):
    assert dataset.table["thumbnail"].null_count == len(dataset)
    assert dataset.table["phash"].null_count == 0
