import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acclimate.data.class_names import class_name, with_class_names
from acclimate.data.sources.row import Row


def rows(*labels):
    return [Row(f"{i}.png", label, None) for i, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("tulip", "tulip"),
        ("  red   rose ", "red rose"),
        (unicodedata.normalize("NFD", "rosé"), "rosé"),
        ("\ufefftulip\u200b", "tulip"),
        ("red\u00a0rose", "red rose"),
        ("red\trose", "red rose"),
        ("\u0646\u200c\u0646", "\u0646\u200c\u0646"),
        ("\u200b \u00ad", ""),
    ],
)
def test_a_class_has_one_spelling(written, name):
    assert class_name(written) == name


@given(st.text(max_size=12))
def test_the_spelling_of_a_class_name_is_final(text):
    assert class_name(class_name(text)) == class_name(text)


def test_names_that_look_the_same_become_one_class_and_a_note_says_so():
    notes = []
    found = with_class_names(rows("rosé", unicodedata.normalize("NFD", "rosé"), "iris"), notes)
    assert [row.label for row in found] == ["rosé", "rosé", "iris"]
    assert notes == ["class 'rosé' is spelt in 2 ways that look the same: read as one."]


def test_names_that_differ_in_case_stay_apart_and_a_note_says_so():
    notes = []
    found = with_class_names(rows("tulip", "Tulip", "iris"), notes)
    assert [row.label for row in found] == ["tulip", "Tulip", "iris"]
    assert notes == [
        "classes 'Tulip' and 'tulip' differ in case only and stay apart: give them one name if "
        "they are one class."
    ]


def test_a_label_without_a_visible_character_is_no_class():
    (found,) = with_class_names(rows("\u200b"), [])
    assert (found.label, found.split) == (None, "unlabelled")
    assert found.reason == "its label '\\u200b' has no visible character"


def test_many_pairs_of_names_are_counted():
    notes = []
    with_class_names(rows(*(name for i in range(8) for name in (f"a{i}", f"A{i}"))), notes)
    assert len(notes) == 6
    assert notes[-1] == ("3 more classes have a twin that differs in case only: 'A5', 'A6', 'A7'.")
