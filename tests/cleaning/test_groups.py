"""A group that crosses given splits: nothing moves, and training leaves its images out."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.cleaning.groups import groups
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import HOME, SCHEMA, Dataset
from acclimate.data.split import split

KEEP_ALL = Clean(drop=("duplicate",))


def made(rows, root):
    plain = {"domain": HOME, "bytes": 1, "stamp": 1, "keep": True, "reasons": [], "flags": []}
    plain["label"] = "ant"
    table = pa.Table.from_pylist(
        [{**plain, "path": f"{i}.jpg", **row} for i, row in enumerate(rows)], schema=SCHEMA
    )
    return Dataset(table, ("ant", "bee"), root)


def judged(*rows, settings=None):
    return groups(made(rows, Path("photos")), settings or Clean(), Context())


def test_training_images_of_a_test_group_are_left_out_and_counted_first():
    found = judged(
        {"group": "p1", "split": "test"},
        {"group": "p1", "split": "train"},
        {"group": "p1", "split": "val"},
        {"group": "p2", "split": "train"},
        {"group": "p3", "split": "val"},
        {"group": "p3", "split": "train"},
        {"group": "p3", "split": "unlabelled", "label": None},
    )
    assert found.keep.tolist() == [True, False, False, True, True, False, False]
    assert found.table["reasons"].to_pylist()[1:] == [
        ["leak: group 'p1' is in test"],
        ["leak: group 'p1' is in test"],
        [],
        [],
        ["leak: group 'p3' is in val"],
        ["leak: group 'p3' is in val"],
    ]
    assert found.notes == (
        "clean: leak: 2 groups are in more than one split, such as 'p1' in test and val. "
        "1 image of val and 2 images of train and 1 image of unlabelled are left out.",
    )


def test_a_leak_that_is_not_dropped_is_flagged_and_told():
    rows = [{"group": "p1", "split": "test"}, {"group": "p1", "split": "train"}]
    found = judged(*rows, settings=KEEP_ALL)
    assert found.keep.all()
    assert found.table["flags"].to_pylist() == [[], ["group_leak"]]
    assert found.notes == (
        "clean: leak: 1 group is in more than one split, such as 'p1' in test and train. "
        "1 image of train is kept, with the flag group_leak.",
    )


def test_a_copy_of_a_test_image_takes_its_whole_group_out_of_training():
    found = judged(
        {"split": "test", "duplicate_of": None},
        {"group": "p1", "split": "train", "duplicate_of": "0.jpg", "keep": False},
        {"group": "p1", "split": "train"},
    )
    assert found.keep.tolist() == [True, False, False]
    assert found.table["reasons"][2].as_py() == ["leak: copies link it to 0.jpg in test"]


def test_images_that_only_look_alike_link_no_groups():
    found = judged(
        {"split": "test", "cluster": 0},
        {"group": "p1", "split": "train", "cluster": 0, "label": "bee"},
        {"group": "p1", "split": "train", "label": "bee"},
    )
    assert found.keep.all()


def test_a_new_image_of_a_test_group_is_not_trained_on():
    found = judged({"group": "p1", "split": "test"}, {"group": "p1"})
    assert found.keep.tolist() == [True, False]


def test_what_will_all_be_tested_does_not_leak():
    rows = [{"group": "p1"}, {"group": "p1"}]
    assert judged(*rows, settings=Clean(val=0.0, test=1.0)).keep.all()


@pytest.mark.parametrize("domain", ["night"])
def test_groups_of_another_domain_are_its_own(domain):
    found = judged(
        {"group": "1", "split": "test", "domain": domain}, {"group": "1", "split": "train"}
    )
    assert found.keep.all()


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "label": st.sampled_from(["ant", "bee"]),
            "split": st.sampled_from(["train", "val", "test", None]),
            "group": st.none() | st.integers(0, 8).map("g{}".format),
        }
    ),
    min_size=8,
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.booleans(), st.integers(0, 1000))
def test_no_given_split_changes_and_no_kept_group_crosses(tmp_path_factory, rows, drop, seed):
    rows += [{"label": label, "split": "train", "group": None} for label in ("ant", "bee")] * 2
    checked = judged(*rows, settings=None if drop else KEEP_ALL)
    done = split(checked, val=0.2, test=0.2, seed=seed)
    given_parts = {row["split"] for row in rows}
    after = done.table["split"].to_pylist()
    for row, now in zip(rows, after, strict=True):
        if row["split"] in ("val", "test"):
            assert now == row["split"]
        elif {"val", "test"} <= given_parts:
            assert now in (None, "train")
    if drop:
        sides = {}
        for row, now, keep in zip(rows, after, done.keep, strict=True):
            if row["group"] is not None and keep:
                sides.setdefault(row["group"], set()).add(now)
        assert all(len(found) == 1 for found in sides.values())
    else:
        assert done.keep.all()
