"""Groups from paths: what matches, what does not, and what may not run for ever."""

import pytest

from acclimate.data.settings import Source
from acclimate.data.sources import group_from as module
from acclimate.data.sources.read import read
from acclimate.errors import DataError, RecipeError
from acclimate.settings import from_keywords
from kit import paint


@pytest.fixture
def photos(tmp_path):
    for label in ("a", "b"):
        for track in range(3):
            for shot in range(2):
                paint(tmp_path / "photos" / label / f"{track:05}_{shot:05}.png", track)
    return tmp_path / "photos"


def test_the_first_group_of_the_expression_is_the_group_of_an_image(photos):
    listed = read(photos, Source(group_from=r"([^/]+/\d+)_\d+"))
    assert listed.table["group"].to_pylist() == [
        f"{label}/{track:05}" for label in "ab" for track in range(3) for _ in range(2)
    ]
    assert listed.notes == ("data.group_from finds 6 groups of up to 2 images.",)


def test_without_a_group_the_whole_match_counts(photos):
    paint(photos / "b" / "other.png", 9)
    listed = read(photos, Source(group_from=r"\d+"))
    assert set(listed.table["group"].to_pylist()) == {"00000", "00001", "00002", None}
    assert listed.notes == (
        "data.group_from finds 3 groups of up to 4 images; 1 image does not match.",
    )


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("x(.)", "matches no path, such as 'a/00000_00000.png'"),
        ("(0)", "gives all images the same group, '0'"),
    ],
)
def test_an_expression_that_makes_no_groups_is_refused(photos, pattern, fault):
    with pytest.raises(DataError) as caught:
        read(photos, Source(group_from=pattern))
    assert str(caught.value) == (
        f"{photos}: data.group_from {pattern!r} {fault}. It is searched for in each path within "
        "the folder; its first (…) is the group."
    )


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("(a", "group_from is not a regular expression"),
        ("a" * 501, "group_from is longer than 500 characters"),
    ],
)
def test_what_is_no_regular_expression_is_refused_at_once(pattern, fault):
    with pytest.raises(RecipeError, match=fault):
        from_keywords(Source, {"group_from": pattern})


def test_an_expression_that_takes_for_ever_is_ended(photos, monkeypatch):
    monkeypatch.setattr(module, "_SECONDS", 0.3)
    paint(photos / "a" / f"{'a' * 60}!.png", 1)
    with pytest.raises(RecipeError) as caught:
        read(photos, Source(group_from="(a+)+$"))
    assert str(caught.value) == (
        "data.group_from: the regular expression '(a+)+$' takes too long on these paths. "
        "Do not repeat what is repeated already, as in (a+)+."
    )
