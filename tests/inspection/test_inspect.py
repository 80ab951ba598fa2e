"""Label errors and outliers are flagged, and dropped only if a setting says so."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from acclimate.cleaning.clean import clean
from acclimate.cleaning.settings import Clean
from acclimate.cleaning.suggested_fixes import suggest_fixes
from acclimate.data.dataset import SCHEMA, SPLITS
from acclimate.data.sample_data import write_digits
from acclimate.data.sources.fix_list import apply_fixes, fixes_as_csv
from acclimate.data.sources.read import read
from acclimate.errors import DataError, RecipeError
from acclimate.inspection.inspect import INSPECTIONS, inspect
from acclimate.inspection.settings import Inspect
from acclimate.models.pretrained import pretrained, wrap
from acclimate.models.settings import Model
from acclimate.settings import from_keywords

CLASSES = ("0", "1", "4", "6", "7")
WRONG = 8
"""Number of swapped labels in train, and again in test."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, context):
    """Five digits that a frozen network can separate, 60 of each."""
    folder = tmp_path_factory.mktemp("inspect") / "digits"
    write_digits(folder, per_class=60)
    for place in folder.glob("*/*"):
        if place.name not in CLASSES:
            shutil.rmtree(place)
    return clean(read(folder), Clean(checks=("unreadable", "duplicates")), context=context)


@pytest.fixture(scope="module")
def imagenet():
    """At a size that shows the strokes."""
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


def test_the_number_of_wrong_labels_is_noted_once(found, imagenet, context):
    twice = inspect(imagenet, found, context=context)
    (note,) = [note for note in twice.notes if note.startswith("labels: ")]
    assert re.fullmatch(
        r"labels: (about )?\d+( to \d+)? of \d+ are estimated to be wrong; "
        r"of those with a score of 0\.\d\d or more, (about )?\d+( to \d+)? %\.",
        note,
    )


def test_labels_of_small_data_are_flagged_only_if_the_user_gives_a_threshold(
    imagenet, swapped, context
):
    keep = np.zeros(len(swapped[0]), bool)
    for label in range(len(CLASSES)):
        rows = swapped[0].rows()
        keep[rows[swapped[0].labels[rows] == label][:24]] = True
    few = swapped[0].with_columns({"keep": keep, "split": ["train"] * len(keep)})
    alone = inspect(imagenet, few, context=context)
    assert flagged(alone) == set()
    assert np.isfinite(scores(alone, "label_error")[few.rows()]).all()
    assert alone.notes[len(few.notes)] == (
        "labels: not flagged: with 24 images per class outside test, wrong labels cannot be told "
        "from hard images; 30 are needed. Set inspect.label_error to 0.9 to flag them anyway."
    )
    given = inspect(imagenet, few, Inspect(label_error=0.5), context=context)
    assert flagged(given)
    assert given.notes[len(few.notes)].startswith("labels: flagged by the given threshold alone: ")


def test_the_label_before_the_swap_is_suggested(found, swapped, dataset):
    hits = flagged(found) & set(swapped[1].tolist())
    suggested = found.table["suggested_label"].to_pylist()
    right = [suggested[row] == dataset.classes[dataset.labels[row]] for row in hits]
    assert np.mean(right) >= 0.9
    assert {row for row, name in enumerate(suggested) if name is not None} == flagged(found)


def test_the_predictions_of_more_networks_are_averaged(found, imagenet, swapped, context, tmp_path):
    """The same network twice changes nothing; one with zero weights lowers every score."""
    imagenet.save(tmp_path / "same")
    blind = timm.create_model("test_efficientnet", num_classes=4)
    with torch.no_grad():
        for weight in blind.parameters():
            weight.zero_()
    wrap(blind).save(tmp_path / "blind")
    twice, mixed = (
        inspect(
            imagenet, swapped[0], Inspect(extra_models=(str(tmp_path / name),)), context=context
        )
        for name in ("same", "blind")
    )
    assert np.allclose(scores(twice, "label_error"), scores(found, "label_error"), equal_nan=True)
    planted = swapped[1]
    pulled = scores(mixed, "label_error")[planted] < scores(found, "label_error")[planted]
    assert pulled.mean() > 0.7


def test_swapped_labels_score_higher_than_others(found, swapped):
    score = scores(found, "label_error")
    scored = np.isfinite(score)
    assert ((score[scored] >= 0) & (score[scored] <= 1)).all()
    others = np.setdiff1d(np.flatnonzero(scored), swapped[1])
    assert np.median(score[swapped[1]]) > np.quantile(score[others], 0.95)


def test_only_kept_labelled_images_of_the_own_domain_are_scored(found):
    scored = np.flatnonzero(np.isfinite(scores(found, "label_error")))
    assert scored.tolist() == found.rows().tolist()


def test_flags_change_no_digest_so_that_nothing_is_trained_again(found, swapped):
    assert found.digest == swapped[0].digest
    assert found.table.schema.equals(SCHEMA)
    for name in ("path", "label", "split", "keep", "reasons", "digest"):
        assert found.table[name].equals(swapped[0].table[name])


def test_the_same_seed_gives_the_same_flags_and_a_second_inspection_adds_nothing(
    found, imagenet, swapped, context
):
    assert inspect(imagenet, swapped[0], context=context).table.equals(found.table)
    again = inspect(imagenet, found, context=context)
    assert again.table.equals(found.table)
    assert again.notes == found.notes


def test_test_labels_are_scored_and_influence_no_other_score(found, imagenet, swapped, context):
    """With all test labels rotated, the scores of train and val stay the same."""
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
    """Each wrong image has three copies: as one cluster they are found, apart they hide."""
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


def test_an_image_that_a_fix_list_keeps_is_not_flagged_again(
    found, imagenet, swapped, context, tmp_path
):
    row = min(flagged(found) & set(swapped[1].tolist()))
    path = tmp_path / "fixes.csv"
    path.write_text(f"path,action\n{found.paths[row]},keep\n")
    kept = inspect(imagenet, apply_fixes(swapped[0], path), context=context)
    assert row not in flagged(kept)
    assert kept.table["suggested_label"][row].as_py() is None
    assert flagged(kept) == flagged(found) - {row}


def test_the_suggested_fixes_correct_wrong_labels(found, swapped, dataset, tmp_path):
    path = tmp_path / "fixes.csv"
    fixes = [replace(f, action="relabel") for f in suggest_fixes(found) if f.suggested]
    path.write_text(fixes_as_csv(fixes))
    fixed = apply_fixes(swapped[0], path)
    before = (swapped[0].labels != dataset.labels).sum()
    assert (fixed.labels != dataset.labels).sum() < 0.8 * before


def test_drop_removes_flagged_images_from_train_alone(found, imagenet, swapped, context):
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
    settings = Inspect(drop=("label_errors",), checks=())
    with pytest.raises(DataError, match="leaves no training image of class '0'"):
        inspect(imagenet, dataset.with_columns({"flags": flags}), settings, context=context)


def test_classes_that_overlap_are_reported(imagenet, dataset, context):
    """Half of the ones are labelled 7, so the two classes look the same."""
    label = dataset.table["label"].to_pylist()
    for number, row in enumerate(np.flatnonzero(dataset.labels == CLASSES.index("1"))):
        label[row] = "7" if number % 2 else "1"
    notes = inspect(imagenet, dataset.with_columns({"label": label}), context=context).notes
    assert any(note.startswith("classes overlap: '1' and '7': ") for note in notes)
    assert not any("'0' and" in note for note in notes)


def test_planted_outliers_are_flagged(imagenet, dataset, context, tmp_path):
    folder = tmp_path / "digits"
    shutil.copytree(dataset.root, folder)
    rng = np.random.default_rng(0)
    planted = []
    for number, label in enumerate(CLASSES):
        pixels = np.zeros((40, 40, 3), np.uint8)
        pixels[:, ::4] = rng.integers(0, 256, 3)
        pixels[number * 5 :] = rng.integers(0, 256, 3)
        path = folder / ("train" if number % 2 else "test") / label / "planted.png"
        Image.fromarray(pixels).save(path)
        planted.append(path.relative_to(folder).as_posix())
    listed = clean(read(folder), Clean(checks=("unreadable", "duplicates")), context=context)
    inspected = inspect(imagenet, listed, context=context)
    rows = [inspected.paths.index(path) for path in planted]
    assert flagged(inspected, "outlier") >= set(rows)
    assert len(flagged(inspected, "outlier")) <= len(rows) + 0.02 * len(inspected)
    score = scores(inspected, "outlier")[inspected.rows()]
    assert ((score >= 0) & (score < 1)).all()


def test_unlabelled_images_are_checked_for_outliers_only(imagenet, dataset, context):
    bare = replace(
        dataset.with_columns(
            {
                "label": [None] * len(dataset),
                "split": ["unlabelled"] * len(dataset),
            }
        ),
        classes=(),
    )
    inspected = inspect(imagenet, bare, context=context)
    assert inspected.table["label_error"].null_count == len(inspected)
    assert np.isfinite(scores(inspected, "outlier")[inspected.rows()]).all()


def test_labels_of_a_class_with_few_images_are_not_scored(imagenet, dataset, context):
    home = dataset.rows()
    sevens = [r for r in home if dataset.labels[r] == 4 and SPLITS[dataset.splits[r]] != "test"]
    keep = dataset.keep.copy()
    keep[sevens[4:]] = False
    inspected = inspect(imagenet, dataset.with_columns({"keep": keep}), context=context)
    score = scores(inspected, "label_error")
    assert np.isnan(score[sevens[:4]]).all()
    assert np.isfinite(score[[r for r in home if dataset.labels[r] == 3]]).all()


def test_images_that_were_never_read_are_refused(imagenet, digits, context):
    with pytest.raises(DataError, match="the images are listed but were never read"):
        inspect(imagenet, read(digits), context=context)


def test_the_table_of_checks_is_the_default():
    assert Inspect().checks == tuple(INSPECTIONS)


def test_a_class_with_a_single_image_does_not_fail(imagenet, dataset, context):
    home = [r for r in dataset.rows("train") if dataset.labels[r] in (0, 1)]
    keep = np.zeros(len(dataset), bool)
    keep[[r for r in home if dataset.labels[r] == 0]] = True
    keep[next(r for r in home if dataset.labels[r] == 1)] = True
    inspected = inspect(imagenet, dataset.with_columns({"keep": keep}), context=context)
    assert flagged(inspected) == set()


@pytest.mark.parametrize(
    ("old", "new"), [("looks", "checks"), ("judges", "estimators"), ("also", "extra_models")]
)
def test_the_old_name_of_a_setting_is_answered_with_the_new_one(old, new):
    with pytest.raises(RecipeError, match=f"It is now called '{new}'"):
        from_keywords(Inspect, {old: ()})
