"""Flags become a fix list: leaks and conflicts first, and nothing that does harm if applied."""

import shutil

import numpy as np
import pytest
from PIL import Image

from acclimate.cleaning.clean import clean
from acclimate.cleaning.settings import Clean
from acclimate.cleaning.suggested_fixes import suggest_fixes
from acclimate.data.sources.fix_list import apply_fixes, fixes_as_csv
from acclimate.data.sources.read import read
from kit import paint


@pytest.fixture
def photos(tmp_path):
    for number, name in enumerate(f"{c}/{i}.png" for c in ("rose", "daisy") for i in range(5)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(tmp_path / name)
    return tmp_path


def test_flags_become_suggestions_the_worst_labels_first(photos):
    dataset = read(photos)
    flags = [[] for _ in range(10)]
    flags[0], flags[1] = ["label_error"], ["blurred", "outlier"]
    flags[2], flags[3] = ["label_error"], ["blurred"]
    flags[4] = ["fix_keep", "blurred"]
    dataset = dataset.with_columns(
        {
            "flags": flags,
            "label_error": [0.91, None, 0.99, *[0.1] * 7],
            "suggested_label": ["rose", None, "rose", *[None] * 7],
            "outlier": [0.0, 0.7, *[0.0] * 8],
        }
    )
    found = suggest_fixes(dataset)
    assert [(fix.path, fix.action, fix.suggested, fix.score) for fix in found] == [
        ("daisy/2.png", "review", "rose", pytest.approx(0.99)),
        ("daisy/0.png", "review", "rose", pytest.approx(0.91)),
        ("daisy/1.png", "review", None, pytest.approx(0.7)),
    ]
    assert [fix.reason for fix in found] == ["label error", "label error", "outlier; blurred"]


@pytest.fixture
def leaky(tmp_path):
    """A leak, a conflict between exact copies, one between look-alikes, and a near-duplicate."""
    for number, name in enumerate(
        f"{split}/{label}/{i}.png"
        for split in ("train", "test")
        for label in ("daisy", "rose")
        for i in range(4)
    ):
        paint(tmp_path / name, number, (64, 64))
    train, test = tmp_path / "train", tmp_path / "test"
    shutil.copy(test / "rose/0.png", train / "rose/leak.png")
    shutil.copy(train / "daisy/1.png", train / "rose/conflict.png")
    Image.open(train / "daisy/2.png").resize((48, 48)).save(train / "rose/alike.png")
    Image.open(train / "daisy/3.png").resize((48, 48)).save(train / "daisy/small.png")
    Image.open(test / "daisy/3.png").resize((48, 48)).save(test / "daisy/small.png")
    return tmp_path


def lines(fixes):
    return [(fix.path, fix.action, fix.reason) for fix in fixes]


LEAKY = [
    ("train/rose/leak.png", "drop", "leak: same picture as test/rose/0.png in test"),
    (
        "train/daisy/1.png", "review",
        "label conflict: same picture as train/rose/conflict.png with label 'rose'",
    ),
    (
        "train/rose/conflict.png", "review",
        "label conflict: same picture as train/daisy/1.png with label 'daisy'",
    ),
    (
        "train/daisy/2.png", "review",
        "near label conflict: looks like train/rose/alike.png with label 'rose'",
    ),
    (
        "train/rose/alike.png", "review",
        "near label conflict: looks like train/daisy/2.png with label 'daisy'",
    ),
    ("test/daisy/small.png", "review", "near duplicate: same picture as test/daisy/3.png"),
    ("train/daisy/small.png", "drop", "near duplicate: same picture as train/daisy/3.png"),
]  # fmt: skip


@pytest.mark.parametrize("settings", [Clean(val=0), Clean(val=0, drop=())])
def test_leaks_and_conflicts_come_first_with_the_names_of_their_twins(leaky, settings):
    assert lines(suggest_fixes(clean(read(leaky), settings))) == LEAKY


def test_a_list_that_is_applied_as_it_was_written_drops_copies_in_train_alone(leaky):
    dataset = clean(read(leaky), Clean(val=0))
    path = leaky / "fixes.csv"
    path.write_text(fixes_as_csv(suggest_fixes(dataset)))
    fixed = clean(apply_fixes(read(leaky), path), Clean(val=0))
    gone = set(np.flatnonzero(dataset.keep & ~fixed.keep).tolist())
    assert {dataset.paths[row] for row in gone} == {"train/daisy/small.png"}
    assert fixed.labels.tolist() == dataset.labels.tolist()


def test_a_relabelled_conflict_is_solved(leaky):
    (leaky / "fixes.csv").write_text(
        "path,suggested_label,action\ntrain/rose/conflict.png,daisy,relabel\n"
    )
    fixed = clean(apply_fixes(read(leaky), leaky / "fixes.csv"))
    assert [name for name, _, _ in lines(suggest_fixes(fixed))][1] == "train/daisy/2.png"
    assert fixed.keep[fixed.paths.index("train/daisy/1.png")]


def test_an_image_that_is_listed_twice_has_one_line(tmp_path):
    for number in range(8):
        paint(tmp_path / f"{number}.png", number, (16, 16))
    labels = "".join(f"{number}.png,{'ab'[number % 2]}\n" for number in range(8))
    (tmp_path / "list.csv").write_text(f"path,label\n{labels}0.png,b\n")
    found = suggest_fixes(clean(read(tmp_path / "list.csv")))
    assert lines(found) == [
        ("0.png", "review", "label conflict: same picture as 0.png with label 'a'")
    ]
