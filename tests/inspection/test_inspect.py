"""Suspected labels and strangers: found, said, never dropped unless told."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from acclimate.cleaning.clean import clean
from acclimate.cleaning.settings import Clean
from acclimate.data.dataset import SCHEMA, SPLITS
from acclimate.data.sample_data import write_digits
from acclimate.data.sources.fix_list import apply_fixes, fixes_as_csv, suggested_fixes
from acclimate.data.sources.read import read
from acclimate.errors import DataError
from acclimate.inspection.inspect import INSPECTIONS, inspect
from acclimate.inspection.settings import Inspect
from acclimate.models.pretrained import pretrained, wrap
from acclimate.models.settings import Model

CLASSES = ("0", "1", "4", "6", "7")
WRONG = 8
"""Labels of train that are swapped, and as many of test."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, context):
    """Five digits that a frozen network tells apart, 60 of each."""
    folder = tmp_path_factory.mktemp("inspect") / "digits"
    write_digits(folder, per_class=60)
    for place in folder.glob("*/*"):
        if place.name not in CLASSES:
            shutil.rmtree(place)
    return clean(read(folder), Clean(checks=("unreadable", "duplicates")), context=context)


@pytest.fixture(scope="module")
def imagenet():
    """At a size that shows it the strokes."""
    return pretrained(Model(image_size=96))


@pytest.fixture(scope="module")
def swapped(dataset):
    """The digits with some labels wrong: (data set, rows)."""
    rng = np.random.default_rng(3)
    rows = np.concatenate(
        [rng.choice(dataset.rows(s), WRONG, replace=False) for s in ("train", "test")]
    )
    labels = dataset.table["label"].to_pylist()
    for row in rows:
        labels[row] = dataset.classes[(dataset.labels[row] + 1 + rng.integers(4)) % 5]
    return dataset.with_columns({"label": labels}), rows


@pytest.fixture(scope="module")
def found(imagenet, swapped, context):
    return inspect(imagenet, swapped[0], context=context)


def flagged(dataset, flag="label_error"):
    return {row for row, flags in enumerate(dataset.table["flags"].to_pylist()) if flag in flags}


def scores(dataset, name):
    return np.asarray(dataset.table[name].to_numpy(zero_copy_only=False), np.float64)


def test_most_swapped_labels_are_flagged_and_little_else(found, swapped):
    rows = set(swapped[1].tolist())
    hits = flagged(found) & rows
    assert len(hits) >= 0.6 * len(rows)
    assert len(hits) >= 0.6 * len(flagged(found))


def test_the_label_before_the_swap_is_suggested(found, swapped, dataset):
    hits = flagged(found) & set(swapped[1].tolist())
    suggested = found.table["suggested_label"].to_pylist()
    right = [suggested[row] == dataset.classes[dataset.labels[row]] for row in hits]
    assert np.mean(right) >= 0.9
    assert {row for row, name in enumerate(suggested) if name is not None} == flagged(found)


def test_more_networks_answer_in_the_mean(found, imagenet, swapped, context, tmp_path):
    """The same network asked twice says the same; one that sees nothing pulls every score."""
    imagenet.save(tmp_path / "same")
    blind = timm.create_model("test_efficientnet", num_classes=4)
    with torch.no_grad():
        for weight in blind.parameters():
            weight.zero_()
    wrap(blind).save(tmp_path / "blind")
    twice, mixed = (
        inspect(imagenet, swapped[0], Inspect(also=(str(tmp_path / name),)), context=context)
        for name in ("same", "blind")
    )
    assert np.allclose(scores(twice, "label_error"), scores(found, "label_error"), equal_nan=True)
    planted = swapped[1]
    pulled = scores(mixed, "label_error")[planted] < scores(found, "label_error")[planted]
    assert pulled.mean() > 0.7


def test_swapped_labels_score_higher_than_others(found, swapped):
    score = scores(found, "label_error")
    judged = np.isfinite(score)
    assert ((score[judged] >= 0) & (score[judged] <= 1)).all()
    others = np.setdiff1d(np.flatnonzero(judged), swapped[1])
    assert np.median(score[swapped[1]]) > np.quantile(score[others], 0.95)


def test_only_kept_labelled_images_of_ones_own_domain_are_judged(found):
    judged = np.flatnonzero(np.isfinite(scores(found, "label_error")))
    assert judged.tolist() == found.rows().tolist()


def test_flags_change_no_digest_so_that_nothing_is_trained_anew(found, swapped):
    assert found.digest == swapped[0].digest
    assert found.table.schema.equals(SCHEMA)
    for name in ("path", "label", "split", "keep", "reasons", "digest"):
        assert found.table[name].equals(swapped[0].table[name])


def test_the_same_seed_says_the_same_twice_and_a_second_look_adds_nothing(
    found, imagenet, swapped, context
):
    assert inspect(imagenet, swapped[0], context=context).table.equals(found.table)
    again = inspect(imagenet, found, context=context)
    assert again.table.equals(found.table)
    assert again.notes == found.notes


def test_test_labels_are_judged_and_judge_nothing(found, imagenet, swapped, context):
    """With all test labels rotated, what is said of train and val stays the very same."""
    other, _ = swapped
    test = set(other.rows("test").tolist())
    labels = [
        other.classes[(other.labels[row] + 1) % 5] if row in test else label
        for row, label in enumerate(other.table["label"].to_pylist())
    ]
    rotated = inspect(imagenet, other.with_columns({"label": labels}), context=context)
    rest = [row for row in other.rows() if row not in test]
    for name in ("label_error", "outlier"):
        assert np.array_equal(scores(rotated, name)[rest], scores(found, name)[rest])
    assert len(flagged(rotated) & test) > 0.5 * len(test)
    assert flagged(found) & test


def test_a_copy_in_another_fold_cannot_vouch_for_its_own_wrong_label(
    imagenet, dataset, digits, context, tmp_path
):
    """Each wrong image stands three times: as one cluster it is found, as three it hides."""
    rng = np.random.default_rng(0)
    wrong = rng.choice(dataset.rows("train"), 6, replace=False)
    rows = [*range(len(dataset)), *np.repeat(wrong, 3).tolist()]
    table = dataset.table.take(rows)
    labels = table["label"].to_pylist()
    copies = [*wrong.tolist(), *range(len(dataset), len(rows))]
    for row in copies:
        labels[row] = dataset.classes[(dataset.labels[rows[row]] + 2) % 5]
    doubled = replace(dataset, table=table).with_columns({"label": labels})
    cluster = np.full(len(rows), -1)
    for number, row in enumerate(wrong.tolist()):
        cluster[[i for i, r in enumerate(rows) if r == row]] = number
    together = doubled.with_columns({"cluster": [c if c >= 0 else None for c in cluster]})
    apart = scores(inspect(imagenet, doubled, context=context), "label_error")[copies]
    known = scores(inspect(imagenet, together, context=context), "label_error")[copies]
    assert known.mean() > apart.mean() + 0.2


def test_a_person_who_said_keep_is_not_asked_again(found, imagenet, swapped, context, tmp_path):
    row = min(flagged(found) & set(swapped[1].tolist()))
    path = tmp_path / "fixes.csv"
    path.write_text(f"path,action\n{found.paths[row]},keep\n")
    kept = inspect(imagenet, apply_fixes(swapped[0], path), context=context)
    assert row not in flagged(kept)
    assert kept.table["suggested_label"][row].as_py() is None
    assert flagged(kept) == flagged(found) - {row}


def test_the_suggested_list_mends_most_of_the_labels(found, swapped, dataset, tmp_path):
    path = tmp_path / "fixes.csv"
    path.write_text(fixes_as_csv([f for f in suggested_fixes(found) if f.action == "relabel"]))
    mended = apply_fixes(swapped[0], path)
    before = (swapped[0].labels != dataset.labels).sum()
    assert (mended.labels != dataset.labels).sum() < 0.8 * before


def test_nothing_is_dropped_unless_told_and_then_from_train_alone(
    found, imagenet, swapped, context
):
    settings = Inspect(drop=("label_errors",))
    left = inspect(imagenet, swapped[0], settings, context=context)
    gone = set(np.flatnonzero(found.keep & ~left.keep).tolist())
    assert gone == flagged(found) & set(found.rows("train").tolist())
    assert gone
    for row in gone:
        assert left.table["reasons"][row].as_py() == ["label is probably wrong"]
    assert left.digest != found.digest


def test_dropping_never_empties_a_class(imagenet, dataset, context):
    flags = [["label_error"] if label == 0 else [] for label in dataset.labels]
    settings = Inspect(drop=("label_errors",), looks=())
    with pytest.raises(DataError, match="no training image is left of class '0'"):
        inspect(imagenet, dataset.with_columns({"flags": flags}), settings, context=context)


def test_classes_that_overlap_are_named(imagenet, dataset, context):
    """Half of the ones are called seven: the two classes look the same."""
    label = dataset.table["label"].to_pylist()
    for number, row in enumerate(np.flatnonzero(dataset.labels == CLASSES.index("1"))):
        label[row] = "7" if number % 2 else "1"
    notes = inspect(imagenet, dataset.with_columns({"label": label}), context=context).notes
    assert any(note.startswith("classes overlap: '1' and '7': ") for note in notes)
    assert not any("'0' and" in note for note in notes)


def test_strangers_are_far_from_all_others(imagenet, dataset, context, tmp_path):
    folder = tmp_path / "digits"
    shutil.copytree(dataset.root, folder)
    rng = np.random.default_rng(0)
    strangers = []
    for number, label in enumerate(CLASSES):
        pixels = np.zeros((40, 40, 3), np.uint8)
        pixels[:, ::4] = rng.integers(0, 256, 3)
        pixels[number * 5 :] = rng.integers(0, 256, 3)
        path = folder / ("train" if number % 2 else "test") / label / "stranger.png"
        Image.fromarray(pixels).save(path)
        strangers.append(path.relative_to(folder).as_posix())
    listed = clean(read(folder), Clean(checks=("unreadable", "duplicates")), context=context)
    seen = inspect(imagenet, listed, context=context)
    rows = [seen.paths.index(path) for path in strangers]
    assert flagged(seen, "outlier") >= set(rows)
    assert len(flagged(seen, "outlier")) <= len(rows) + 0.02 * len(seen)
    score = scores(seen, "outlier")[seen.rows()]
    assert ((score >= 0) & (score < 1)).all()


def test_images_without_labels_are_looked_at_for_strangers_alone(imagenet, dataset, context):
    bare = replace(
        dataset.with_columns(
            {
                "label": [None] * len(dataset),
                "split": ["unlabelled"] * len(dataset),
            }
        ),
        classes=(),
    )
    seen = inspect(imagenet, bare, context=context)
    assert seen.table["label_error"].null_count == len(seen)
    assert np.isfinite(scores(seen, "outlier")[seen.rows()]).all()


def test_a_class_of_few_images_is_not_judged(imagenet, dataset, context):
    home = dataset.rows()
    sevens = [r for r in home if dataset.labels[r] == 4 and SPLITS[dataset.splits[r]] != "test"]
    keep = dataset.keep.copy()
    keep[sevens[4:]] = False
    seen = inspect(imagenet, dataset.with_columns({"keep": keep}), context=context)
    score = scores(seen, "label_error")
    assert np.isnan(score[sevens[:4]]).all()
    assert np.isfinite(score[[r for r in home if dataset.labels[r] == 3]]).all()


def test_a_listing_that_nobody_looked_at_is_told(imagenet, digits, context):
    with pytest.raises(DataError, match="images were listed but never looked at"):
        inspect(imagenet, read(digits), context=context)


def test_the_table_of_looks_is_the_default():
    assert Inspect().looks == tuple(INSPECTIONS)


def test_two_classes_of_which_one_is_a_single_image_are_no_failure(imagenet, dataset, context):
    home = [r for r in dataset.rows("train") if dataset.labels[r] in (0, 1)]
    keep = np.zeros(len(dataset), bool)
    keep[[r for r in home if dataset.labels[r] == 0]] = True
    keep[next(r for r in home if dataset.labels[r] == 1)] = True
    seen = inspect(imagenet, dataset.with_columns({"keep": keep}), context=context)
    assert flagged(seen) == set()
