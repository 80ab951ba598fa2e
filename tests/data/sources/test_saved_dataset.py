"""A saved data set as a source: what was said of the images stays, what was found is found anew."""

import shutil

import numpy as np
import pytest
from PIL import Image

from acclimate.cleaning.clean import clean
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import HOME, Dataset
from acclimate.data.settings import Source
from acclimate.data.sources.read import read
from acclimate.errors import DataError

SAID = ("path", "label", "split", "domain", "group")


def paint(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path):
    """Two classes of ten images, one stored twice, one broken."""
    folder = tmp_path / "photos"
    for number in range(20):
        paint(folder / ("rose" if number % 2 else "daisy") / f"{number:02}.png", number)
    shutil.copyfile(folder / "rose" / "05.png", folder / "rose" / "copy.png")
    (folder / "rose" / "broken.png").write_bytes(b"")
    return folder


@pytest.fixture
def saved(tmp_path):
    """Saves a data set and tells where."""

    def save(dataset):
        dataset.save(tmp_path / "saved.parquet")
        return tmp_path / "saved.parquet"

    return save


def column(dataset, name):
    return dict(zip(dataset.paths, dataset.table[name].to_pylist(), strict=True))


def test_what_was_cleaned_and_saved_cleans_to_the_same_again(photos, saved):
    first = clean(read(photos))
    again = clean(read(saved(first)))
    assert again.digest == first.digest
    assert again.table.equals(first.table)
    assert (again.classes, again.root) == (first.classes, first.root.resolve())


def test_findings_are_forgotten_and_what_the_owner_said_stays(photos, saved, tmp_path):
    (photos / "list.csv").write_text(
        "path,label,split,group\nrose/01.png,a,train,p\nrose/03.png,a,test,\nrose/05.png,b,train,q\n"
        "rose/copy.png,b,train,\nrose/07.png,b,test,\nrose/09.png,,unlabelled,\n"
    )
    paint(tmp_path / "night" / "a" / "1.png", 77)
    source = Source(test_domains={"night": tmp_path / "night"})
    listed = read(photos / "list.csv", source)
    again = read(saved(clean(listed)))
    for name in SAID:
        assert column(again, name) == column(listed, name)
    assert again.domains == (HOME, "night")
    for name in ("digest", "width", "phash", "duplicate_of", "brightness", "cluster"):
        assert again.table[name].null_count == len(again)
    assert again.keep.all()
    assert set(map(tuple, again.table["flags"].to_pylist())) == {()}


def test_a_mended_image_is_back_and_a_new_fault_is_found(photos, saved):
    place = saved(clean(read(photos)))
    paint(photos / "rose" / "broken.png", 50)
    (photos / "daisy" / "00.png").write_bytes(b"")
    (photos / "daisy" / "02.png").unlink()
    again = clean(read(place))
    reasons = {path: said for path, said in column(again, "reasons").items() if said}
    assert reasons == {
        "daisy/00.png": ["file is empty (0 bytes)"],
        "daisy/02.png": ["no such file"],
        "rose/copy.png": ["exact duplicate of rose/05.png"],
    }
    assert column(again, "split")["rose/broken.png"] == "train"


def test_another_policy_judges_the_copies_anew_and_keeps_them_beside_their_pictures(photos, saved):
    first = clean(read(photos))
    again = clean(read(saved(first)), Clean(drop=()))
    assert column(again, "keep")["rose/copy.png"]
    assert column(again, "flags")["rose/copy.png"][0] == "duplicate"
    after, before = column(again, "split"), column(first, "split")
    assert after["rose/copy.png"] == after["rose/05.png"] == before["rose/05.png"]
    assert {path: after[path] for path in before if before[path]} == {
        path: split for path, split in before.items() if split
    }


def test_what_a_person_decided_is_decided(photos, saved, tmp_path):
    fixes = tmp_path / "fixes.csv"
    fixes.write_text(
        "path,suggested_label,action\nrose/01.png,,drop\nrose/03.png,daisy,relabel\n"
        "rose/copy.png,,keep\n"
    )
    first = clean(read(photos, Source(fix_list=fixes)))
    again = read(saved(first))
    assert column(again, "reasons")["rose/01.png"] == ["fix list: dropped (fixes.csv:2)"]
    assert column(again, "label")["rose/03.png"] == "daisy"
    assert column(again, "flags")["rose/copy.png"] == ["fix_keep"]
    assert clean(again).digest == first.digest


def test_a_fix_list_and_classes_to_leave_out_apply_to_it(photos, saved, tmp_path):
    place = saved(clean(read(photos)))
    fixes = tmp_path / "fixes.csv"
    fixes.write_text("path,action\nrose/01.png,drop\n")
    assert not column(read(place, Source(fix_list=fixes)), "keep")["rose/01.png"]
    left = read(place, Source(leave_out_classes=("daisy",)))
    assert left.classes == ("rose",)
    assert set(column(left, "label").values()) == {"rose"}


def test_a_path_that_leads_out_is_not_followed_unless_it_is_allowed(photos, saved, tmp_path):
    paint(tmp_path / "secret.png", 9)
    dataset = read(photos)
    paths = ["../secret.png", *dataset.paths[1:]]
    place = saved(dataset.with_columns({"path": paths}))
    reasons = column(read(place), "reasons")
    assert reasons["../secret.png"] == ["path leads out of the data set's folder"]
    assert column(clean(read(place)), "digest")["../secret.png"] is None
    assert column(read(place, Source(allow_outside=True)), "keep")["../secret.png"]


def test_a_domain_that_it_holds_is_not_read_a_second_time(photos, saved, tmp_path):
    paint(tmp_path / "night" / "rose" / "1.png", 77)
    source = Source(test_domains={"night": tmp_path / "night"})
    place = saved(read(photos, source))
    with pytest.raises(DataError) as caught:
        read(place, source)
    assert str(caught.value) == (
        "data.test_domains: the data set holds a domain 'night' already. "
        "Give this one another name."
    )


def test_a_table_without_a_path_is_damaged(photos, saved):
    dataset = read(photos)
    place = saved(dataset.with_columns({"path": [None, *dataset.paths[1:]]}))
    with pytest.raises(DataError, match=r"data set is damaged \(an image has no path\)"):
        read(place)


def test_its_splits_stand_whatever_the_seed(photos, saved):
    place = saved(clean(read(photos), context=Context(seed=3)))
    assert clean(read(place), context=Context(seed=4)).digest == Dataset.load(place).digest
