from collections import Counter, defaultdict
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.cleaning.duplicates.exact import duplicates
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import HOME, SCHEMA, SPLITS, Dataset

CLASSES = ("ant", "bee")


def made(rows):
    plain = {"domain": HOME, "bytes": 1, "stamp": 1, "keep": True, "reasons": [], "flags": []} | {
        "label": "ant"
    }
    table = pa.Table.from_pylist(
        [
            {**plain, "path": f"{i:02}.jpg", **row, "digest": digest(row["same"])}
            for i, row in enumerate(rows)
        ],
        schema=pa.schema([f for f in SCHEMA]),
    )
    return Dataset(table, CLASSES, Path())


def digest(content):
    return None if content is None else str(content).encode().rjust(16)


def judged(*rows):
    """Path to (kept, reasons, duplicate_of) of rows given as keywords."""
    done = duplicates(made(rows), Clean(), Context())
    columns = (done.table[n].to_pylist() for n in ("keep", "reasons", "duplicate_of"))
    return dict(zip(done.paths, zip(*columns, strict=True), strict=True))


def test_one_of_equal_files_stays_and_the_others_name_it():
    assert judged({"same": 1}, {"same": 2}, {"same": 1}, {"same": 1}) == {
        "00.jpg": (True, [], None),
        "01.jpg": (True, [], None),
        "02.jpg": (False, ["exact duplicate of 00.jpg"], "00.jpg"),
        "03.jpg": (False, ["exact duplicate of 00.jpg"], "00.jpg"),
    }


def test_the_same_pixels_in_another_file_are_a_duplicate_too():
    rows = [
        {"same": 1, "pixels": digest(7)},
        {"same": 2, "pixels": digest(7)},
        {"same": 2, "pixels": digest(7)},
        {"same": 3, "pixels": digest(8)},
    ]
    assert judged(*rows) == {
        "00.jpg": (True, [], None),
        "01.jpg": (False, ["same picture as 00.jpg"], "00.jpg"),
        "02.jpg": (False, ["same picture as 00.jpg"], "00.jpg"),
        "03.jpg": (True, [], None),
    }


def test_the_same_pixels_leak_and_contradict_as_files_do():
    rows = [
        {"same": 1, "pixels": digest(7), "split": "train"},
        {"same": 2, "pixels": digest(7), "split": "test"},
        {"same": 3, "pixels": digest(8)},
        {"same": 4, "pixels": digest(8), "label": "bee"},
    ]
    found = judged(*rows)
    assert found["00.jpg"][:2] == (False, ["leak: same picture as 01.jpg in test"])
    assert found["02.jpg"][:2] == (False, ["same picture as 03.jpg with label 'bee'"])
    assert [kept for kept, _, _ in found.values()] == [False, True, False, False]


def test_a_policy_that_drops_nothing_flags_everything():
    rows = [{"same": 1}, {"same": 1}, {"same": 2, "split": "train"}, {"same": 2, "split": "val"}]
    done = duplicates(made(rows), Clean(drop=()), Context())
    assert done.keep.all()
    assert done.table["flags"].to_pylist() == [[], ["duplicate"], ["leak"], []]
    assert done.table["reasons"].to_pylist() == [[]] * 4


@pytest.mark.parametrize(
    ("stays", "goes"),
    [("test", "train"), ("val", "train"), ("test", "val"), ("train", "unlabelled")],
)
def test_of_copies_in_two_splits_the_one_that_judges_stays(stays, goes):
    rows = [{"same": 1, "split": goes}, {"same": 1, "split": stays}]
    assert judged(*rows) == {
        "00.jpg": (False, [f"leak: same file as 01.jpg in {stays}"], "01.jpg"),
        "01.jpg": (True, [], None),
    }


def test_a_copy_in_every_split_stays_in_test_alone():
    rows = [{"same": 1, "split": split} for split in ("train", "val", "test", "unlabelled")]
    assert [kept for kept, _, _ in judged(*rows).values()] == [False, False, True, False]


def test_copies_under_different_labels_are_all_left_out():
    rows = [{"same": 1, "label": "bee"}, {"same": 1, "label": "ant"}, {"same": 2}]
    found = judged(*rows)
    assert found["00.jpg"][:2] == (False, ["same file as 01.jpg with label 'ant'"])
    assert found["01.jpg"][:2] == (False, ["same file as 00.jpg with label 'bee'"])
    assert found["02.jpg"] == (True, [], None)


def test_a_copy_in_test_stays_whatever_label_it_has_in_train():
    rows = [
        {"same": 1, "label": "bee", "split": "train"},
        {"same": 1, "label": "ant", "split": "test"},
    ]
    assert judged(*rows) == {
        "00.jpg": (False, ["same file as 01.jpg with label 'ant'"], "01.jpg"),
        "01.jpg": (True, [], None),
    }


def test_a_copy_without_a_label_does_not_contradict_one_that_has():
    rows = [{"same": 1, "split": "train"}, {"same": 1, "label": None, "split": "unlabelled"}]
    assert [kept for kept, _, _ in judged(*rows).values()] == [True, False]


def test_what_was_left_out_or_not_read_is_no_original():
    rows = [
        {"same": 1, "keep": False, "reasons": ["broken"]},
        {"same": 1},
        {"same": None},
        {"same": None},
    ]
    assert judged(*rows) == {
        "00.jpg": (False, ["broken"], None),
        "01.jpg": (True, [], None),
        "02.jpg": (True, [], None),
        "03.jpg": (True, [], None),
    }


def test_other_test_domains_are_left_alone():
    rows = [
        {"same": 1, "split": "train"},
        {"same": 1, "split": "test", "domain": "night"},
        {"same": 1, "split": "test", "domain": "night"},
    ]
    assert all(kept for kept, _, _ in judged(*rows).values())


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "same": st.integers(0, 4) | st.none(),
            "label": st.sampled_from([*CLASSES, None]),
            "split": st.sampled_from([*SPLITS, None]),
            "keep": st.sampled_from([True, True, True, False]),
        }
    ),
    max_size=20,
)


def kept_paths(dataset):
    return {path for path, keep in zip(dataset.paths, dataset.keep, strict=True) if keep}


@settings(max_examples=150, deadline=None)
@given(ROWS)
def test_no_file_is_kept_twice_none_leaks_and_none_is_lost(rows):
    before = made(rows)
    after = duplicates(before, Clean(), Context())
    kept, had, labels = Counter(), set(), defaultdict(set)
    in_test = set()
    for i, row in enumerate(rows):
        if row["same"] is None:
            assert after.keep[i] == row["keep"]
        elif row["keep"]:
            kept[row["same"]] += bool(after.keep[i])
            had.add(row["same"])
            labels[row["same"]] |= {row["label"]} - {None}
            if row["split"] == "test":
                in_test.add(row["same"])
        else:
            assert not after.keep[i]
    for content in had:
        agreed = len(labels[content]) < 2 or content in in_test
        assert kept[content] == (1 if agreed else 0)
    for i, row in enumerate(rows):
        if after.keep[i] and row["same"] in in_test:
            assert row["split"] == "test"


@settings(max_examples=75, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_who_stays_does_not_depend_on_the_order_of_rows(rows, random):
    named = [{**row, "path": f"{i:02}.jpg"} for i, row in enumerate(rows)]
    shuffled = random.sample(named, len(named))
    first, second = (duplicates(made(r), Clean(), Context()) for r in (named, shuffled))
    assert kept_paths(first) == kept_paths(second)


@settings(max_examples=50, deadline=None)
@given(ROWS)
def test_every_dropped_copy_has_one_reason_and_names_a_file(rows):
    after = duplicates(made(rows), Clean(), Context())
    for i, row in enumerate(after.table.to_pylist()):
        dropped = rows[i]["keep"] and not row["keep"]
        assert len(row["reasons"]) == dropped
        assert row["duplicate_of"] is None or row["duplicate_of"] in after.paths
