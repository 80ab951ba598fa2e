"""The fix list: what a person decided is done, and what was mistyped is told with its line."""

import pytest
from PIL import Image

from acclimate.cleaning.clean import clean
from acclimate.data.settings import Source
from acclimate.data.sources.fix_list import (
    Fix,
    apply_fixes,
    fixes_as_csv,
    is_marked_keep,
)
from acclimate.data.sources.read import read
from acclimate.errors import DataError

HEAD = "path,given_label,suggested_label,action,reason,score\n"


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for number, name in enumerate(f"{c}/{i}.png" for c in ("rose", "daisy") for i in range(5)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(folder / name)
    return folder


@pytest.fixture
def fixed(photos, tmp_path):
    """Reads the photos with a fix list of some text."""

    def make(text, name="fixes.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return read(photos, Source(fix_list=path))

    return make


def refusal(make, text):
    with pytest.raises(DataError) as caught:
        make(text)
    return str(caught.value).replace(" Correct the lines; nothing was applied.", "")


def row(dataset, path):
    return dataset.table.slice(dataset.paths.index(path), 1).to_pylist()[0]


def test_actions_are_done_and_say_so(fixed):
    dataset = fixed(
        HEAD + "rose/1.png,rose,daisy,relabel,,0.97\n"
        "rose/2.png,rose,,drop,blurred,\n"
        "daisy/0.png,daisy,rose,keep,,0.91\n"
    )
    moved, gone, kept = (row(dataset, p) for p in ("rose/1.png", "rose/2.png", "daisy/0.png"))
    assert (moved["label"], moved["keep"]) == ("daisy", True)
    assert moved["flags"] == ["fix_relabel"]
    assert (gone["keep"], gone["reasons"]) == (False, ["fix list: dropped (fixes.csv:3)"])
    assert (kept["label"], kept["keep"]) == ("daisy", True)
    assert is_marked_keep(kept["flags"])
    assert dataset.notes == (
        "fixes.csv: 1 image dropped, 1 image relabelled, 1 image kept as they are.",
    )
    assert int(dataset.keep.sum()) == 9
    assert row(dataset, "rose/3.png")["flags"] == []


def test_lines_for_review_change_nothing(fixed):
    before, after = fixed(HEAD), fixed(HEAD + "rose/1.png,rose,daisy,review,label error,0.97\n")
    assert after.digest == before.digest
    assert row(after, "rose/1.png") == row(before, "rose/1.png")
    assert after.notes == ("fixes.csv: 1 image left for review.",)


def test_what_was_decided_comes_through_cleaning(fixed):
    dataset = clean(fixed("path,action,suggested_label\nrose/1.png,relabel,daisy\n"))
    assert row(dataset, "rose/1.png")["label"] == "daisy"
    assert row(dataset, "rose/1.png")["flags"] == ["fix_relabel"]


@pytest.mark.parametrize(
    "line", ["rose/1.png,rose,daisy,relabel,,", "rose/1.png,rose,,drop,,", "rose/1.png,,,keep,,"]
)
def test_every_decision_is_part_of_the_digest(fixed, line):
    """A run that was done before must not be found done when its fix list was edited."""
    before, after = fixed(HEAD), fixed(HEAD + line + "\n")
    assert before.digest != after.digest
    assert clean(before).digest != clean(after).digest


def test_the_same_list_gives_the_same_digest_wherever_its_lines_stand(fixed):
    lines = ["rose/1.png,rose,daisy,relabel,,\n", "daisy/1.png,,,keep,,\n"]
    assert fixed(HEAD + "".join(lines)).digest == fixed(HEAD + "".join(lines[::-1])).digest


def test_the_files_stay_as_they_are(fixed, photos):
    before = {p: p.read_bytes() for p in photos.rglob("*.png")}
    fixed(HEAD + "rose/1.png,rose,,drop,,\nrose/2.png,rose,daisy,relabel,,\n")
    assert {p: p.read_bytes() for p in photos.rglob("*.png")} == before


@pytest.mark.parametrize(
    "text",
    [
        "path;action\nrose/1.png;DROP\n",
        "\ufeffpath\taction\r\nrose/1.png\tdrop\r\n",
        "action,path\n drop , rose/1.png \n\n",
    ],
)
def test_a_list_is_read_however_a_spreadsheet_left_it(fixed, text):
    assert not row(fixed(text), "rose/1.png")["keep"]


BAD = {
    "rose/9.png,rose,,drop,,": "there is no image 'rose/9.png' in the data.",
    "../x.png,rose,,drop,,": "there is no image '../x.png' in the data.",
    "rose/1.png,rose,,delete,,": "action 'delete' is unknown. Known: drop, keep, relabel, review.",
    "rose/1.png,rose,,relable,,": "action 'relable' is unknown. Did you mean 'relabel'?",
    "rose/1.png,rose,,,,": "action '' is unknown. Known: drop, keep, relabel, review.",
    "rose/1.png,rose,,relabel,,": "suggested_label is empty. Write the new label there.",
    "rose/1.png,rose,daisi,relabel,,": (
        "label 'daisi' is not a class of the data. Did you mean 'daisy'?"
    ),
    "rose/1.png,tulip,,drop,,": "image 'rose/1.png' is 'rose' now, and was 'tulip' in the list.",
}


@pytest.mark.parametrize(("line", "message"), BAD.items())
def test_a_mistake_is_told_with_its_line(fixed, tmp_path, line, message):
    told = refusal(fixed, HEAD + "rose/0.png,,,keep,,\n\n" + line + "\n")
    assert told == f"{tmp_path / 'fixes.csv'}:4: {message}"


def test_all_mistakes_are_told_at_once(fixed, tmp_path):
    path = tmp_path / "fixes.csv"
    lines = refusal(fixed, HEAD + "".join(f"gone/{i}.png,,,drop,,\n" for i in range(14)))
    told = lines.splitlines()
    assert told[0] == f"{path}:2: there is no image 'gone/0.png' in the data."
    assert told[9] == f"{path}:11: there is no image 'gone/9.png' in the data."
    assert told[10:] == ["… and 4 more"]


def test_two_decisions_about_one_image_are_told(fixed, tmp_path):
    told = refusal(fixed, HEAD + "rose/1.png,,,drop,,\nrose/1.png,,,keep,,\n")
    assert told == (
        f"{tmp_path / 'fixes.csv'}:3: image 'rose/1.png' has an action already, in line 2."
    )


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("file,action", "fix list has no column 'path'; it has 'file', 'action'."),
        ("path,todo", "fix list has no column 'action'; it has 'path', 'todo'."),
        ("path,action,labl", "column 'labl' is unknown."),
    ],
)
def test_columns_that_are_not_those_of_a_fix_list_are_told(fixed, tmp_path, header, message):
    assert refusal(fixed, f"{header}\n").startswith(f"{tmp_path / 'fixes.csv'}:1: {message}")


def test_a_list_that_is_not_there_is_told(photos, tmp_path):
    with pytest.raises(DataError, match=r"no such file\. Check the spelling of --fix-list"):
        read(photos, Source(fix_list=tmp_path / "gone.csv"))


def test_a_relabelled_image_that_had_no_label_can_teach(tmp_path):
    for number, name in enumerate(
        ["train/a/1.png", "train/b/1.png", "train/b/2.png", "unlabelled/9.png"]
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(tmp_path / name)
    listing = read(tmp_path)
    (tmp_path / "fixes.csv").write_text("path,suggested_label,action\nunlabelled/9.png,a,relabel\n")
    fixed = apply_fixes(listing, tmp_path / "fixes.csv")
    found = clean(fixed).counts("train")["a"] + clean(fixed).counts("val")["a"]
    assert found + clean(fixed).counts("test")["a"] == 2


def test_a_suggested_list_can_be_applied_as_it_is(photos, tmp_path):
    fixes = [
        Fix("rose/1.png", "rose", "daisy", "relabel", "label error", 0.9),
        Fix("rose/2.png", "rose", None, "keep", 'a "quoted", long\nreason'),
        Fix("daisy/3.png", "daisy", None, "drop", "outlier", 0.8),
    ]
    path = tmp_path / "fixes.csv"
    path.write_text(fixes_as_csv(fixes))
    dataset = apply_fixes(read(photos), path)
    assert row(dataset, "rose/1.png")["label"] == "daisy"
    assert not row(dataset, "daisy/3.png")["keep"]
    assert is_marked_keep(row(dataset, "rose/2.png")["flags"])


def test_a_list_applied_to_what_it_already_made_changes_no_label_again(photos, tmp_path):
    path = tmp_path / "fixes.csv"
    path.write_text(HEAD + "rose/1.png,rose,daisy,relabel,,\n")
    once = apply_fixes(read(photos), path)
    assert apply_fixes(once, path).labels.tolist() == once.labels.tolist()


def test_relabelled_to_what_it_is_means_kept(fixed):
    dataset = fixed(HEAD + "rose/1.png,rose,rose,relabel,,\n")
    assert is_marked_keep(row(dataset, "rose/1.png")["flags"])
    assert dataset.notes == ("fixes.csv: 1 image kept as they are.",)
