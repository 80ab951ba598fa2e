import inspect
import re

import pytest

from acclimate import errors
from acclimate.errors import (
    AcclimateError,
    DataError,
    Interrupted,
    NotBetter,
    NotTrusted,
    OutputError,
    RecipeError,
    UnreadableImage,
    count,
    near_names,
    reason,
)

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, AcclimateError)
]


def test_the_tree_in_the_docstring_is_the_tree_there_is():
    told = dict(re.findall(r"^ {4,}([A-Z]\w+) +(?:exit code )?(\d+)", errors.__doc__, re.MULTILINE))
    assert told == {kind.__name__: str(kind.exit_code) for kind in KINDS}
    assert len(told) == 13


def test_every_kind_has_a_code_of_its_own_in_kebab_case():
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(KINDS)
    for kind in KINDS:
        assert kind.code == re.sub(r"(?<!^)([A-Z])", r"-\1", kind.__name__).lower()


def test_exit_codes_tell_mend_it_from_no_and_from_our_fault():
    assert AcclimateError.exit_code == 1
    assert {k.exit_code for k in (RecipeError, DataError, UnreadableImage, OutputError)} == {2}
    assert {k.exit_code for k in (NotTrusted, NotBetter)} == {3}
    assert Interrupted.exit_code == 130


@pytest.mark.parametrize(
    ("where", "hint", "text"),
    [
        (None, None, "label is empty."),
        ("list.csv:12", None, "list.csv:12: label is empty."),
        (None, "Give a label.", "label is empty. Give a label."),
        ("list.csv:12", "Give a label.", "list.csv:12: label is empty. Give a label."),
    ],
)
def test_an_error_reads_where_what_and_what_to_do(where, hint, text):
    assert str(DataError("label is empty.", where=where, hint=hint)) == text


def test_an_error_is_a_record_of_plain_text(tmp_path):
    error = OutputError("cannot write here.", where=tmp_path, hint="Free some space.")
    assert error.as_record() == {
        "code": "output-error",
        "message": "cannot write here.",
        "where": str(tmp_path),
        "hint": "Free some space.",
    }
    assert AcclimateError("x").as_record()["where"] is None


def test_an_unreadable_image_is_caught_as_wrong_data():
    with pytest.raises(DataError):
        raise UnreadableImage("file is empty (0 bytes).")


@pytest.mark.parametrize(
    ("name", "known", "sentence"),
    [
        ("epoch", ["epochs", "patience"], "Did you mean 'epochs'?"),
        ("tset", ["train", "val", "test"], "Did you mean 'test'?"),
        ("shear", ["shear_x", "shear_y", "blur"], "Did you mean 'shear_y' or 'shear_x'?"),
        ("zzz", ["val", "train"], "Known: train, val."),
        (
            "zzz",
            [f"n{i:02}" for i in range(12)],
            f"Known: {', '.join(f'n{i:02}' for i in range(12))}.",
        ),
        (
            "zzz",
            [f"n{i:02}" for i in range(13)],
            f"Known: {', '.join(f'n{i:02}' for i in range(12))}, ….",
        ),
    ],
)
def test_the_nearest_names_are_offered(name, known, sentence):
    assert near_names(name, known) == sentence


def test_a_count_agrees_with_its_noun():
    assert count(1, "image") == "1 image"
    assert count(0, "image") == "0 images"
    assert count(12_000, "image") == "12,000 images"
    assert count(1, "class", "classes") == "1 class"
    assert count(3, "class", "classes") == "3 classes"


@pytest.mark.parametrize(
    ("error", "line", "text"),
    [
        (ValueError("bad shape"), 0, "bad shape"),
        (ValueError("bad shape."), 0, "bad shape"),
        (ValueError("\n  bad   shape\nat line 3"), 0, "bad shape"),
        (ValueError("first\n\tlast: a, b."), -1, "last: a, b"),
        (ValueError(""), 0, "ValueError"),
        (ValueError(" \n"), -1, "ValueError"),
        (KeyError("size"), 0, "'size'"),
        (RuntimeError("\x1b[1;31mfailed\x1b[0m: \x1b]8;;x\x07link"), 0, "failed: link"),
        (RuntimeError("\x1b[31m\x1b[0m"), 0, "RuntimeError"),
        (ValueError("word " * 32 + "next"), 0, "word " * 32 + "…"),
        (ValueError("word " * 31 + "after"), 0, "word " * 31 + "after"),
        (ValueError("word " * 31 + "afters"), 0, "word " * 31 + "…"),
        (ValueError("x" * 200), 0, "x" * 160 + " …"),
    ],
)
def test_a_reason_is_one_short_line_of_an_error(error, line, text):
    assert reason(error, line=line) == text
