from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from acclimate.data.dataset import HOME, SCHEMA, Dataset
from acclimate.data.split import split
from acclimate.errors import DataError

CLASSES = ("ant", "bee", "cat")
ROOT = Path("photos")


def made(rows, classes=CLASSES):
    """A data set of rows that need only say what is special about them."""
    plain = {"domain": HOME, "bytes": 1, "stamp": 1, "keep": True, "reasons": []}
    table = pa.Table.from_pylist(
        [{**plain, "path": f"{i}.jpg", **row} for i, row in enumerate(rows)], schema=SCHEMA
    )
    return Dataset(table, tuple(classes), ROOT)


def of(dataset):
    return dataset.table["split"].to_pylist()


def many(**counts):
    return [{"label": label} for label, number in counts.items() for _ in range(number)]


PLAIN = st.builds(lambda a, b, c: many(ant=a, bee=b, cat=c), *[st.integers(2, 60)] * 3)
FRACTIONS = st.floats(0, 0.45)
SEEDS = st.integers(0, 2**63 - 1)


@settings(max_examples=50, deadline=None)
@given(PLAIN, FRACTIONS, FRACTIONS, SEEDS)
def test_every_image_gets_one_split_and_every_class_its_share(rows, val, test, seed):
    dataset = split(made(rows), val=val, test=test, seed=seed)
    assert set(of(dataset)) <= {"train", "val", "test"}
    for name in CLASSES:
        total = sum(row["label"] == name for row in rows)
        for part, fraction in (("val", val), ("test", test)):
            found = dataset.counts(part)[name]
            assert abs(found - fraction * total) <= 1
            if total >= 3 and fraction > 0:
                assert found >= 1
        assert dataset.counts("train")[name] >= 1


@settings(max_examples=25, deadline=None)
@given(PLAIN, SEEDS)
def test_the_same_seed_gives_the_same_split(rows, seed):
    first = split(made(rows), val=0.2, test=0.2, seed=seed)
    assert of(first) == of(split(made(rows), val=0.2, test=0.2, seed=seed))


def test_another_seed_gives_another_split_of_the_same_sizes():
    rows = many(ant=40, bee=40, cat=40)
    first, second = (split(made(rows), val=0.2, test=0.2, seed=seed) for seed in (0, 1))
    assert of(first) != of(second)
    assert Counter(of(first)) == Counter(of(second))


@settings(max_examples=25, deadline=None)
@given(PLAIN, SEEDS)
def test_splitting_again_changes_nothing(rows, seed):
    once = split(made(rows), val=0.2, test=0.2, seed=seed)
    assert of(split(once, val=0.2, test=0.2, seed=seed // 2)) == of(once)


GROUPED = st.lists(
    st.fixed_dictionaries(
        {
            "label": st.sampled_from(CLASSES),
            "group": st.none() | st.integers(0, 12).map("g{}".format),
        }
    ),
    min_size=12,
    max_size=60,
)


def sides(dataset):
    """The splits that each group stands in."""
    found = defaultdict(set)
    groups, keep = dataset.table["group"].to_pylist(), dataset.keep
    for group, part, kept in zip(groups, of(dataset), keep, strict=True):
        if group is not None and kept and part is not None:
            found[group].add(part)
    return found


@settings(max_examples=60, deadline=None)
@given(GROUPED, st.floats(0, 0.4), st.floats(0, 0.4), SEEDS)
def test_images_of_one_group_stay_on_one_side_whatever_their_class(rows, val, test, seed):
    assume(min(Counter(row["label"] for row in rows).values()) >= 2)
    dataset = split(made(rows), val=val, test=test, seed=seed)
    assert {group: parts for group, parts in sides(dataset).items() if len(parts) > 1} == {}
    assert None not in of(dataset)


CLUSTERED = st.lists(
    st.fixed_dictionaries(
        {
            "label": st.sampled_from(CLASSES),
            "group": st.none() | st.integers(0, 12).map("g{}".format),
            "cluster": st.none() | st.integers(0, 20),
        }
    ),
    min_size=12,
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(CLUSTERED, SEEDS)
def test_near_duplicates_stay_on_one_side_and_take_their_groups_along(rows, seed):
    assume(min(Counter(row["label"] for row in rows).values()) >= 2)
    parts = of(split(made(rows), val=0.2, test=0.2, seed=seed))
    for name in ("group", "cluster"):
        found = defaultdict(set)
        for row, part in zip(rows, parts, strict=True):
            if row[name] is not None:
                found[row[name]].add(part)
        assert {value: sides for value, sides in found.items() if len(sides) > 1} == {}
    assert None not in parts


def test_a_near_duplicate_of_a_given_test_image_does_not_join_it():
    rows = [*given_splits("train", "test"), *many(ant=10, bee=10, cat=10)]
    rows = [{**row, "cluster": 7 if i in (35, 61) else None} for i, row in enumerate(rows)]
    done = split(made(rows), val=0.9, test=0.2, seed=0)
    assert [of(done)[i] for i in (35, 61)] == ["test", "train"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=4, max_size=20), SEEDS)
def test_images_of_one_group_and_class_stay_on_one_side(sizes, seed):
    rows = [{"label": "ant", "group": f"g{i}"} for i, size in enumerate(sizes) for _ in range(size)]
    dataset = split(made([*rows, *many(bee=5)]), val=0.2, test=0.2, seed=seed)
    assert all(len(parts) == 1 for parts in sides(dataset).values())
    for part in ("train", "val", "test"):
        assert dataset.counts(part)["ant"] >= 1


def test_small_groups_judge_where_large_ones_train():
    rows = [{"label": "ant", "group": f"g{i}"} for i in (0, 1, *[2] * 5, *[3] * 5)]
    done = split(made([*rows, *many(bee=5)]), val=0.2, test=0.2, seed=0)
    assert [done.counts(part)["ant"] for part in ("train", "val", "test")] == [10, 1, 1]


def test_new_images_of_a_group_in_the_given_test_split_never_become_val():
    rows = [
        {"label": name, "group": f"{name}-{i % 4}", "split": "test" if i == 0 else None}
        for name in CLASSES
        for i in range(20)
    ]
    dataset = split(made(rows), val=0.4, test=0.2, seed=0)
    assert dataset.counts("test") == dict.fromkeys(CLASSES, 1)
    assert {group: sides(dataset)[group] for group in ("ant-0", "bee-0", "cat-0")} == {
        "ant-0": {"test", "train"},
        "bee-0": {"test", "train"},
        "cat-0": {"test", "train"},
    }


PARTLY_GIVEN = st.lists(
    st.fixed_dictionaries(
        {
            "label": st.sampled_from(CLASSES),
            "split": st.sampled_from(["train", "val", "test", None]),
            "group": st.none() | st.integers(0, 12).map("g{}".format),
            "cluster": st.none() | st.integers(0, 20),
        }
    ),
    min_size=12,
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(PARTLY_GIVEN, st.sampled_from(["val", "test"]), SEEDS)
def test_a_given_val_or_test_split_is_left_as_it_is(rows, missing, seed):
    rows = [row for row in rows if row["split"] != missing]
    assume(rows and min(Counter(row["label"] for row in rows).values()) >= 2)
    parts = of(split(made(rows), val=0.3, test=0.3, seed=seed))
    before = [row["split"] for row in rows]
    given_one = {"val", "test"} - {missing}
    for was, now in zip(before, parts, strict=True):
        assert (was in given_one) == (now in given_one) or given_one.isdisjoint(before)
    made_one = {i for i, part in enumerate(parts) if part == missing}
    for name in ("group", "cluster"):
        judged = {rows[i][name] for i, was in enumerate(before) if was in given_one} - {None}
        assert judged.isdisjoint({rows[i][name] for i in made_one})


def given_splits(*parts, each=10):
    return [
        {"label": name, "split": part} for part in parts for name in CLASSES for _ in range(each)
    ]


@pytest.mark.parametrize(
    "parts", [("train", "val", "test"), ("train", "test"), ("train", "val"), ("train",), ("test",)]
)
def test_given_splits_are_kept_and_what_is_missing_is_carved_from_train(parts):
    dataset = made(given_splits(*parts))
    done = split(dataset, val=0.2, test=0.2, seed=0)
    moved = {
        (before, after)
        for before, after in zip(of(dataset), of(done), strict=True)
        if before != after
    }
    missing = {"val", "test"} - set(parts) if "train" in parts else set()
    assert moved == {("train", part) for part in missing}
    for part in missing:
        assert done.counts(part) == dict.fromkeys(CLASSES, 2)


def test_the_test_split_never_becomes_val():
    done = split(made(given_splits("train", "test")), val=0.5, test=0.5, seed=0)
    assert done.counts("test") == dict.fromkeys(CLASSES, 10)
    assert done.counts("val") == dict.fromkeys(CLASSES, 5)


def test_images_without_a_split_join_the_given_ones():
    rows = [*given_splits("test"), *many(ant=20, bee=20, cat=20)]
    done = split(made(rows), val=0.1, test=0.5, seed=0)
    assert of(done)[:30] == ["test"] * 30
    assert Counter(of(done)[30:]) == {"val": 6, "train": 54}


def test_images_without_a_split_train_where_all_splits_are_given():
    rows = [*given_splits("train", "val", "test"), *many(ant=5, bee=5, cat=5)]
    done = split(made(rows), val=0.2, test=0.2, seed=0)
    assert of(done) == [*of(made(rows))[:90], *["train"] * 15]


def test_what_is_left_out_or_without_a_label_or_of_another_domain_is_not_dealt():
    rows = [
        *many(ant=10, bee=10, cat=10),
        {"label": "ant", "keep": False},
        {"split": "unlabelled"},
        {"label": None},
        {"label": "bee", "domain": "night", "split": "test"},
    ]
    done = split(made(rows), val=0.2, test=0.2, seed=0)
    assert of(done)[30:] == [None, "unlabelled", None, "test"]
    assert Counter(of(done)[:30]) == {"train": 18, "val": 6, "test": 6}


def test_a_domains_test_images_do_not_stand_for_a_test_split():
    rows = [*many(ant=10, bee=10, cat=10), {"label": "bee", "domain": "night", "split": "test"}]
    done = split(made(rows), val=0.2, test=0.2, seed=0)
    assert done.counts("test") == dict.fromkeys(CLASSES, 2)


def test_a_domains_test_images_do_not_stand_for_a_test_split_beside_given_ones():
    rows = [*given_splits("train"), {"label": "bee", "domain": "night", "split": "test"}]
    done = split(made(rows), val=0.2, test=0.2, seed=0)
    assert done.counts("test") == dict.fromkeys(CLASSES, 2)


def test_a_fraction_of_nothing_gives_nothing():
    done = split(made(many(ant=10, bee=10, cat=10)), val=0.0, test=0.0, seed=0)
    assert set(of(done)) == {"train"}


def test_a_whole_fraction_makes_all_of_it_judge():
    done = split(made(many(ant=10, bee=2, cat=3)), val=0.0, test=1.0, seed=0)
    assert set(of(done)) == {"test"}


def test_a_single_image_of_a_class_is_enough_to_judge_by():
    done = split(made(many(ant=10, bee=1, cat=3)), val=0.0, test=1.0, seed=0)
    assert set(of(done)) == {"test"}


def test_two_images_of_a_class_both_train():
    done = split(made(many(ant=10, bee=10, cat=2)), val=0.2, test=0.2, seed=0)
    assert of(done)[20:] == ["train", "train"]


def test_a_class_with_one_image_is_told_with_a_way_out():
    with pytest.raises(DataError) as caught:
        split(made(many(ant=10, bee=1, cat=3)), val=0.2, test=0.2, seed=0)
    assert str(caught.value) == (
        "photos: 1 class has a single usable image: 'bee'. "
        "Add images, or leave them out with --set data.leave_out_classes=[...]."
    )


def test_one_more_image_of_a_class_that_has_given_ones_is_no_fault():
    rows = [*given_splits("train", "val", "test"), *many(ant=1)]
    assert of(split(made(rows), val=0.2, test=0.2, seed=0))[-1] == "train"


def test_many_classes_with_one_image_are_counted_and_the_first_five_named():
    names = [f"c{i}" for i in range(7)]
    rows = [{"label": name} for name in names]
    with pytest.raises(DataError) as caught:
        split(made(rows, names), val=0.2, test=0.2, seed=0)
    assert str(caught.value).startswith(
        "photos: 7 classes have a single usable image: 'c0', 'c1', 'c2', 'c3', 'c4', …."
    )


def test_an_image_that_is_left_out_does_not_count():
    rows = [*many(ant=10, bee=10, cat=1), {"label": "cat", "keep": False}]
    with pytest.raises(DataError, match="1 class has a single usable image: 'cat'"):
        split(made(rows), val=0.2, test=0.2, seed=0)


def test_the_split_leaves_every_other_column_alone():
    dataset = made(many(ant=10, bee=10, cat=10))
    done = split(dataset, val=0.2, test=0.2, seed=0)
    assert done.table.drop_columns(["split"]).equals(dataset.table.drop_columns(["split"]))
    assert done.table.schema.equals(SCHEMA)
    assert np.array_equal(done.labels, dataset.labels)
