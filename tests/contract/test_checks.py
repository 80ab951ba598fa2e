"""What every check keeps: rows and files stay, and what it drops has a reason."""

import shutil

import numpy as np
import pytest
from PIL import Image

from acclimate.cleaning.checks import CHECKS, FLAGS
from acclimate.cleaning.clean import clean
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import SCHEMA
from acclimate.data.sources.read import read

FINDS = {
    "unreadable": ("rose/broken.png", None),
    "duplicates": ("rose/copy.png", "duplicate"),
    "near_duplicates": ("rose/darker.png", "near_duplicate"),
    "groups": ("rose/3.png", "group_leak"),
    "quality": ("rose/blank.png", "low_contrast"),
}
"""A file that each check is there to find, and the flag it gives."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checks") / "photos"
    for label in ("rose", "daisy"):
        (folder / label).mkdir(parents=True)
        for i in range(4):
            rng = np.random.default_rng([i, len(label)])
            pixels = rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}.png")
    shutil.copy(folder / "rose" / "0.png", folder / "rose" / "copy.png")
    content = (folder / "rose" / "1.png").read_bytes()
    (folder / "rose" / "broken.png").write_bytes(content[:60])
    with Image.open(folder / "rose" / "2.png") as image:
        image.point(lambda level: level * 0.8).save(folder / "rose" / "darker.png")
    Image.new("RGB", (12, 10), (90, 120, 150)).save(folder / "rose" / "blank.png")
    (folder / "rose" / "notes.txt").write_text("mine")
    return folder


@pytest.fixture
def before(photos, name):
    """What a check is given: the listing as the checks before it left it."""
    dataset = listed(photos)
    for earlier in list(CHECKS)[: list(CHECKS).index(name)]:
        dataset = run(earlier, dataset)
    return dataset


def listed(photos):
    """The images, two of them of one group: one has no split, the other is given as test."""
    dataset = read(photos)
    places = [dataset.paths.index(path) for path in ("rose/3.png", "daisy/3.png")]
    group, split = [None] * len(dataset), [None] * len(dataset)
    group[places[0]] = group[places[1]] = "patient 7"
    split[places[1]] = "test"
    return dataset.with_columns({"group": group, "split": split})


each_check = pytest.mark.parametrize("name", CHECKS)


def run(name, dataset):
    return CHECKS[name].run(dataset, Clean(), Context())


def test_every_check_has_a_file_to_find():
    assert set(FINDS) == set(CHECKS)
    assert Clean().checks == tuple(CHECKS)


def test_every_flag_belongs_to_one_check():
    assert len(FLAGS) == sum(len(check.flags) for check in CHECKS.values())


@each_check
def test_a_check_sets_its_own_flags_only(name, before):
    had, has = (
        {f for some in d.table["flags"].to_pylist() for f in some or []}
        for d in (before, run(name, before))
    )
    assert has - had <= {flag.name for flag in CHECKS[name].flags}


def judged(before, after):
    """Path, and (kept, flags) before and after."""
    columns = (
        zip(d.keep.tolist(), d.table["flags"].to_pylist(), strict=True) for d in (before, after)
    )
    return list(zip(before.paths, *columns, strict=True))


@each_check
def test_a_check_finds_what_it_is_there_for_and_nothing_good(name, before):
    after = run(name, before)
    path, flag = FINDS[name]
    if flag is None or flag in Clean().drop:
        assert [p for p, had, has in judged(before, after) if had[0] and not has[0]] == [path]
    else:
        assert after.keep.tolist() == before.keep.tolist()
    newly = {p: set(has[1]) - set(had[1]) for p, had, has in judged(before, after)}
    found = {p: flags for p, flags in newly.items() if flags}
    assert found == ({} if flag is None else {path: {flag}})


@each_check
def test_a_check_judges_and_changes_nothing_else(name, before):
    after = run(name, before)
    assert after.table.schema.equals(SCHEMA)
    columns = list(CHECKS[name].writes)
    assert after.table.drop_columns(columns).equals(before.table.drop_columns(columns))
    assert (after.classes, after.root) == (before.classes, before.root)


@each_check
def test_a_finding_leaves_an_image_out_when_the_policy_says_so(name, before):
    path, flag = FINDS[name]
    if flag is None:
        pytest.skip("what cannot be read cannot be kept")
    row = before.paths.index(path)
    assert not CHECKS[name].run(before, Clean(drop=(flag,)), Context()).keep[row]
    assert CHECKS[name].run(before, Clean(drop=()), Context()).keep[row]


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
    dataset = clean(listed(photos), Clean(checks=names))
    path, flag = FINDS[name]
    row = dataset.paths.index(path)
    assert dataset.keep[row]
    assert flag not in dataset.table["flags"][row].as_py()
