"""What every check keeps: rows and files stay, and what it drops has a reason."""

import shutil

import numpy as np
import pytest
from PIL import Image

from acclimate.cleaning.clean import CHECKS, clean
from acclimate.cleaning.settings import Clean
from acclimate.cleaning.unreadable import unreadable
from acclimate.context import Context
from acclimate.data.dataset import SCHEMA
from acclimate.data.sources import read

FINDS = {"unreadable": "rose/broken.png", "duplicates": "rose/copy.png"}
"""A file that each check is there to find."""

JUDGEMENT = ["keep", "reasons", "digest", "width", "height", "duplicate_of"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checks") / "photos"
    for label in ("rose", "daisy"):
        (folder / label).mkdir(parents=True)
        for i in range(4):
            rng = np.random.default_rng([i, len(label)])
            pixels = rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}.png")
    shutil.copy(folder / "rose" / "0.png", folder / FINDS["duplicates"])
    content = (folder / "rose" / "1.png").read_bytes()
    (folder / FINDS["unreadable"]).write_bytes(content[:60])
    (folder / "rose" / "notes.txt").write_text("mine")
    return folder


@pytest.fixture
def before(photos, name):
    """What a check is given: the listing, and digests for all but the check that makes them."""
    listing = read(photos)
    return listing if name == "unreadable" else unreadable(listing, Clean(), Context())


each_check = pytest.mark.parametrize("name", CHECKS)


def run(name, dataset):
    return CHECKS[name](dataset, Clean(), Context())


def test_every_check_has_a_file_to_find():
    assert set(FINDS) == set(CHECKS)
    assert Clean().checks == tuple(CHECKS)


@each_check
def test_a_check_finds_what_it_is_there_for_and_nothing_good(name, before):
    after = run(name, before)
    newly = {
        path
        for path, had, has in zip(before.paths, before.keep, after.keep, strict=True)
        if had and not has
    }
    assert newly == {FINDS[name]}


@each_check
def test_a_check_judges_and_changes_nothing_else(name, before):
    after = run(name, before)
    assert after.table.schema.equals(SCHEMA)
    assert after.table.drop_columns(JUDGEMENT).equals(before.table.drop_columns(JUDGEMENT))
    assert (after.classes, after.root, after.notes) == (before.classes, before.root, before.notes)


@each_check
def test_a_check_gives_every_dropped_image_a_reason_and_no_other(name, before):
    after = run(name, before)
    for keep, reasons in zip(after.keep, after.table["reasons"].to_pylist(), strict=True):
        assert bool(reasons) != keep


@each_check
def test_a_check_never_brings_an_image_back_or_forgets_why_it_went(name, before):
    dropped = before.with_columns(
        {"keep": [False] * len(before), "reasons": [["mine"]] * len(before)}
    )
    after = run(name, dropped)
    assert not after.keep.any()
    assert after.table["reasons"].to_pylist() == [["mine"]] * len(before)


@each_check
def test_a_check_run_twice_says_the_same_once(name, before):
    once = run(name, before)
    twice = run(name, once)
    assert twice.keep.tolist() == once.keep.tolist()
    assert twice.table["reasons"].to_pylist() == once.table["reasons"].to_pylist()
    assert twice.digest == once.digest


@each_check
def test_a_check_answers_the_same_every_time(name, before):
    assert run(name, before).table.equals(run(name, before).table)


@each_check
def test_a_check_leaves_the_files_alone(name, before, photos):
    state = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in photos.rglob("*.*")}
    run(name, before)
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in photos.rglob("*.*")} == state


@each_check
def test_a_check_is_left_out_when_its_name_is(name, photos):
    names = tuple(check for check in CHECKS if check != name)
    dataset = clean(read(photos), Clean(checks=names))
    assert dataset.keep[dataset.paths.index(FINDS[name])]
