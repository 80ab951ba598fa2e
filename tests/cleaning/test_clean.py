import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from acclimate.cleaning.clean import clean
from acclimate.cleaning.settings import Clean
from acclimate.cleaning.summary import drop_reasons
from acclimate.context import Context
from acclimate.data.dataset import SCHEMA
from acclimate.data.settings import Source
from acclimate.data.sources.read import read
from acclimate.errors import DataError, RecipeError
from acclimate.settings import from_keywords
from kit import Recorder


def paint(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng([*name.encode()]).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


def spoil(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


@pytest.fixture
def photos(tmp_path):
    """Two classes of ten images."""
    folder = tmp_path / "photos"
    paint(folder, *(f"{name}/{i}.png" for name in ("rose", "daisy") for i in range(10)))
    return folder


def splits(dataset):
    return dataset.table["split"].to_pylist()


def test_good_images_are_all_kept_and_split(photos):
    dataset = clean(read(photos))
    assert dataset.keep.all()
    assert dataset.counts("train") == {"daisy": 6, "rose": 6}
    assert dataset.counts("val") == {"daisy": 2, "rose": 2}
    assert dataset.counts("test") == {"daisy": 2, "rose": 2}
    assert dataset.table["digest"].null_count == 0


def test_what_cannot_be_used_gets_no_split_and_is_told(photos):
    spoil(photos, "rose/x.png", "daisy/y.png")
    shutil.copy(photos / "rose" / "1.png", photos / "rose" / "copy.png")
    (photos / "rose" / "notes.txt").write_text("mine")
    recorder = Recorder()
    dataset = clean(read(photos), context=Context(progress=recorder))
    assert recorder.lines == [
        "clean: 20 images of 2 classes kept (12 train, 4 val, 4 test), 4 left out",
        "  unreadable: 3",
        "    daisy/y.png: file is empty (0 bytes)",
        "    rose/notes.txt: not an image file (.txt)",
        "    rose/x.png: file is empty (0 bytes)",
        "  duplicate: 1",
        "    rose/copy.png: exact duplicate of rose/1.png",
    ]
    for row in np.flatnonzero(~dataset.keep):
        assert splits(dataset)[row] is None
    assert sum(split is not None for split in splits(dataset)) == 20


def test_a_picture_stored_again_in_another_format_is_left_out(photos):
    with Image.open(photos / "rose" / "1.png") as image:
        image.save(photos / "rose" / "1.bmp")
    dataset = clean(read(photos))
    assert drop_reasons(dataset, 10) == ["rose/1.png: same picture as rose/1.bmp"]


def test_nothing_of_the_users_is_moved_changed_or_deleted(photos):
    spoil(photos, "rose/x.png")
    shutil.copy(photos / "rose" / "1.png", photos / "rose" / "copy.png")
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in photos.rglob("*.*")}
    clean(read(photos))
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in photos.rglob("*.*")} == before


def test_every_row_stays_in_its_place(photos):
    spoil(photos, "rose/x.png")
    before = read(photos)
    after = clean(before)
    assert after.paths == before.paths
    assert after.table.schema.equals(SCHEMA)
    assert after.classes == before.classes


def test_the_same_seed_cleans_to_the_same_digest_and_another_splits_otherwise(photos):
    digests = [clean(read(photos), context=Context(seed=seed)).digest for seed in (3, 3, 4)]
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_cleaning_what_is_clean_changes_nothing(photos):
    spoil(photos, "rose/x.png")
    shutil.copy(photos / "rose" / "1.png", photos / "rose" / "copy.png")
    once = clean(read(photos))
    twice = clean(once)
    assert twice.keep.tolist() == once.keep.tolist()
    assert twice.table["reasons"].to_pylist() == once.table["reasons"].to_pylist()
    assert splits(twice) == splits(once)
    assert twice.digest == once.digest


def test_the_settings_decide_the_fractions_and_the_checks(photos):
    shutil.copy(photos / "rose" / "1.png", photos / "rose" / "copy.png")
    dataset = clean(read(photos), Clean(val=0.4, test=0.1, checks=("unreadable",)))
    assert dataset.keep.all()
    assert dataset.counts("val") == {"daisy": 4, "rose": 4}
    assert dataset.counts("test") == {"daisy": 1, "rose": 1}


def test_a_leak_across_given_splits_loses_its_training_copy(tmp_path):
    names = [f"{s}/{c}/{i}.png" for s in ("train", "val", "test") for c in "ab" for i in range(4)]
    paint(tmp_path, *names)
    for split in ("train", "val"):
        shutil.copy(tmp_path / "test" / "a" / "0.png", tmp_path / split / "a" / "leak.png")
    dataset = clean(read(tmp_path))
    assert drop_reasons(dataset, 10) == [
        "train/a/leak.png: leak: same file as test/a/0.png in test",
        "val/a/leak.png: leak: same file as test/a/0.png in test",
    ]
    assert dataset.counts("test") == {"a": 4, "b": 4}
    assert dataset.counts("train") == {"a": 4, "b": 4}


def test_what_falsifies_figures_is_told_before_what_cannot_be_read(tmp_path):
    names = [f"{s}/{c}/{i}.png" for s in ("train", "val", "test") for c in "ab" for i in range(4)]
    paint(tmp_path, *names)
    spoil(tmp_path, "train/a/1 broken.png")
    shutil.copy(tmp_path / "test" / "b" / "0.png", tmp_path / "train" / "b" / "leak.png")
    recorder = Recorder()
    clean(read(tmp_path), context=Context(progress=recorder))
    assert recorder.lines == [
        "clean: 24 images of 2 classes kept (8 train, 8 val, 8 test), 2 left out",
        "  leak: 1",
        "    train/b/leak.png: leak: same file as test/b/0.png in test",
        "  unreadable: 1",
        "    train/a/1 broken.png: file is empty (0 bytes)",
    ]


@pytest.mark.parametrize(
    ("settings", "empty"),
    [
        ({}, []),
        ({"val": 1.0}, ["train"]),
        ({"val": 0.0}, []),
        ({"val": 0.0, "test": 1.0}, []),  # to be judged by, and no more
    ],
)
def test_a_split_that_got_no_image_is_told(tmp_path, settings, empty):
    paint(tmp_path, *(f"{c}/{i}.png" for c in "ab" for i in range(20)))
    recorder = Recorder()
    clean(read(tmp_path), Clean(**settings), context=Context(progress=recorder))
    lines = [line for line in recorder.lines if "is left for" in line]
    assert lines == [f"clean: no image is left for {name}" for name in empty]


def test_fractions_that_leave_nothing_to_train_on_are_refused(tmp_path):
    paint(tmp_path, *(f"{c}/{i}.png" for c in "ab" for i in range(20)))
    with pytest.raises(DataError) as caught:
        clean(read(tmp_path), Clean(test=0.9))
    assert str(caught.value) == (
        f"{tmp_path}: a val of 0.15 and a test of 0.9 leave no image for train. "
        "Lower clean.val or clean.test."
    )


def listed(folder, splits):
    """A list of 24 images of two classes, in groups of four images each."""
    lines = ["path,label,split,group"]
    for number in range(24):
        name = "ab"[number % 2]
        paint(folder, f"{name}/{number}.png")
        lines.append(f"{name}/{number}.png,{name},{splits(number)},g{number // 4}")
    (folder / "list.csv").write_text("\n".join(lines))
    return folder / "list.csv"


def test_groups_that_all_cross_leave_nothing_to_train_on_and_are_told_first(tmp_path):
    place, recorder = listed(tmp_path, lambda i: "train" if i % 4 > 1 else "test"), Recorder()
    with pytest.raises(DataError) as caught:
        clean(read(place), context=Context(progress=recorder))
    assert recorder.lines[:2] == [
        "clean: leak: 6 groups are in more than one split, such as 'g0' in test and train. "
        "12 images of train are left out.",
        "clean: 12 images of 2 classes kept (12 test), 12 left out",
    ]
    assert str(caught.value) == (
        f"{tmp_path}/list.csv: no image is left for train: all 12 are left out (group leak: 12). "
        "Split the data by whole groups, or take a flag out of clean.drop to keep its images."
    )


def test_a_class_that_only_leaks_is_told_after_the_groups_that_cross(tmp_path):
    place, recorder = listed(tmp_path, lambda i: "train" if i % 4 else "test"), Recorder()
    with pytest.raises(DataError) as caught:
        clean(read(place), context=Context(progress=recorder))
    assert recorder.lines == [
        "clean: leak: 6 groups are in more than one split, such as 'g0' in test and train. "
        "18 images of train are left out.",
    ]
    assert str(caught.value).startswith(
        f"{place}: no usable image is left of 1 class: 'b' (b/1.png: leak: group 'g0' is in "
    )


@pytest.mark.parametrize("drop", [Clean().drop, ("duplicate",)])
def test_a_given_test_split_stays_as_it_is_given(tmp_path, drop):
    place = listed(tmp_path, lambda i: "test" if i in (0, 1, 2, 3, 4, 5) else "train")
    before = read(place)
    after = clean(before, Clean(drop=drop))
    assert [after.paths[row] for row in after.rows("test")] == before.paths[:6]
    crossing = ["a/6.png", "b/7.png"]
    kept = {after.paths[row] for row in after.rows("train")}
    assert kept.issuperset(crossing) == (drop == ("duplicate",))
    assert kept.isdisjoint(crossing) == (drop != ("duplicate",))
    assert not {after.paths[row] for row in after.rows("val")} & set(crossing)


def test_few_images_leave_none_for_val_and_test(tmp_path):
    paint(tmp_path, *(f"{c}/{i}.png" for c in "ab" for i in range(2)))
    recorder = Recorder()
    clean(read(tmp_path), context=Context(progress=recorder))
    assert "clean: no image is left for val" in recorder.lines


def test_flags_of_kept_images_are_counted(photos):
    Image.new("RGB", (8, 8), (90, 120, 150)).save(photos / "rose" / "blank.png")
    recorder = Recorder()
    dataset = clean(read(photos), context=Context(progress=recorder))
    assert dataset.keep.all()
    assert recorder.lines[-3:] == [
        "clean: 1 image that is kept is flagged",
        "  low contrast: 1",
        "    rose/blank.png: contrast 0.00",
    ]


def test_the_first_reasons_are_told_and_the_rest_counted(photos):
    spoil(photos, *(f"rose/bad{i:04}.png" for i in range(1_012)))
    recorder = Recorder()
    dataset = clean(read(photos), context=Context(progress=recorder))
    lines = drop_reasons(dataset, 2)
    assert lines == [
        "rose/bad0000.png: file is empty (0 bytes)",
        "rose/bad0001.png: file is empty (0 bytes)",
        "… and 1,010 more",
    ]
    assert recorder.lines[0] == (
        "clean: 20 images of 2 classes kept (12 train, 4 val, 4 test), 1,012 left out"
    )
    assert len(recorder.lines) == 7
    assert drop_reasons(dataset, 0) == ["… and 1,012 more"]


def test_nothing_left_out_leaves_nothing_to_tell(photos):
    assert drop_reasons(clean(read(photos)), 10) == []


def test_an_only_file_that_is_no_image_is_told_in_the_singular(tmp_path):
    spoil(tmp_path, "a/1.png")
    with pytest.raises(DataError) as caught:
        clean(read(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}: the only file here is not a usable image: a/1.png: file is empty (0 bytes)."
    )


def test_an_archive_without_a_usable_image_is_named_and_not_the_cache(tmp_path):
    spoil(tmp_path / "photos", "a/1.png", "b/2.png")
    place = shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path / "photos")
    with pytest.raises(DataError) as caught:
        clean(read(Path(place)))
    assert str(caught.value).startswith(f"{place}: none of the 2 files here is a usable image: a/1")


def test_a_folder_without_one_usable_image_names_the_first_reasons(tmp_path):
    spoil(tmp_path, "a/1.png", "a/2.png", "b/3.png", "b/4.png")
    with pytest.raises(DataError) as caught:
        clean(read(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}: none of the 4 files here is a usable image: "
        "a/1.png: file is empty (0 bytes); a/2.png: file is empty (0 bytes); "
        "b/3.png: file is empty (0 bytes); … and 1 more."
    )


def test_a_class_without_one_usable_image_is_named_with_a_way_out(photos):
    spoil(photos, "tulip/1.png", "tulip/2.png")
    with pytest.raises(DataError) as caught:
        clean(read(photos))
    assert str(caught.value) == (
        f"{photos}: no usable image is left of 1 class: 'tulip' "
        "(tulip/1.png: file is empty (0 bytes)). "
        "Repair the images, or leave the class out with --set data.leave_out_classes=[...]."
    )
    assert clean(read(photos, Source(leave_out_classes=("tulip",)))).classes == ("daisy", "rose")


def test_a_class_whose_images_all_stand_under_another_label_too_is_named(photos):
    for i in range(10):
        shutil.copy(photos / "rose" / f"{i}.png", photos / "daisy" / f"rose{i}.png")
    with pytest.raises(DataError, match="no usable image is left of 1 class: 'rose'"):
        clean(read(photos))


def test_a_class_with_one_image_is_told_with_a_way_out(photos):
    paint(photos, "tulip/1.png")
    with pytest.raises(DataError) as caught:
        clean(read(photos))
    assert str(caught.value) == (
        f"{photos}: 1 class has a single usable image: 'tulip'. "
        "Add images, or leave them out with --set data.leave_out_classes=[...]."
    )
    assert clean(read(photos, Source(leave_out_classes=("tulip",)))).classes == ("daisy", "rose")


def test_a_list_whose_class_has_one_image_has_the_same_way_out(photos):
    paint(photos, "tulip/1.png")
    lines = [p.relative_to(photos) for p in sorted(photos.rglob("*.png"))]
    (photos / "list.csv").write_text(
        "path,label\n" + "".join(f"{p.as_posix()},{p.parent.name}\n" for p in lines)
    )
    with pytest.raises(DataError, match=r"leave them out with --set data\.leave_out_classes"):
        clean(read(photos / "list.csv"))
    source = Source(leave_out_classes=("tulip",))
    assert clean(read(photos / "list.csv", source)).classes == ("daisy", "rose")


def test_a_test_domain_is_cleaned_and_keeps_its_place(photos, tmp_path):
    paint(tmp_path / "night", "rose/1.png", "rose/2.png")
    spoil(tmp_path / "night", "rose/3.png")
    source = Source(test_domains={"night": tmp_path / "night"})
    dataset = clean(read(photos, source))
    assert dataset.counts("test", "night") == {"daisy": 0, "rose": 2}
    assert dataset.counts("train", "night") == {"daisy": 0, "rose": 0}
    assert len(drop_reasons(dataset, 10)) == 1


def test_unlabelled_images_are_cleaned_and_not_dealt(tmp_path):
    paint(tmp_path, *(f"train/{c}/{i}.png" for c in "ab" for i in range(10)), "unlabelled/1.png")
    spoil(tmp_path, "unlabelled/2.png")
    dataset = clean(read(tmp_path))
    assert len(dataset.rows("unlabelled")) == 1
    assert dataset.counts("val") == {"a": 2, "b": 2}


def test_the_shared_digits_are_clean(dataset):
    assert dataset.keep.all()
    assert dataset.domains == ("home", "shifted")
    assert set(dataset.counts("train").values()) == {18}
    assert sum(dataset.counts("test", "shifted").values()) == 80


def test_the_old_name_of_a_setting_is_refused_with_the_new_one():
    with pytest.raises(RecipeError, match="now called 'feature_similarity'"):
        from_keywords(Clean, {"feature_likeness": 0.8})
