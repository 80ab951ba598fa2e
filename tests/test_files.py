import errno
import json
import os
import resource
import shutil
import stat
import threading
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.errors import DataError, OutputError
from acclimate.files import (
    atomic_folder,
    claim,
    digest_bytes,
    digest_file,
    digest_json,
    folder_bytes,
    inside,
    read_bounded,
    read_json,
    read_record,
    replace_folder,
    write_atomic,
    write_json,
    write_record,
    writing_errors,
)

FULL = "cannot write here (file too large). Choose another place with --out."


@contextmanager
def no_room_above(limit):
    """The operating system refuses files above a size, as a full disk refuses them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only(folder):
    """Nobody but root may write here, and whoever runs this is not root for a while."""
    folder.chmod(0o555)
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)
        folder.chmod(0o755)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_digests_tell_contents_apart(first, second):
    assert len(digest_bytes(first)) == 32
    assert (digest_bytes(first) == digest_bytes(second)) == (first == second)


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
def test_a_file_has_the_digest_of_its_bytes(tmp_path, size):
    content = bytes(i % 251 for i in range(size))
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    assert digest_file(path) == digest_bytes(content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), st.randoms(use_true_random=False))
def test_the_digest_of_json_does_not_depend_on_the_order_of_keys(record, random):
    keys = list(record)
    random.shuffle(keys)
    assert digest_json({key: record[key] for key in keys}) == digest_json(record)


def test_the_digest_of_json_sees_a_changed_value():
    assert digest_json({"a": 1, "b": [2]}) != digest_json({"a": 1, "b": [3]})


def test_a_file_at_the_limit_is_read_and_one_byte_more_is_refused(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"x" * 1000)
    assert read_bounded(path, 1000) == b"x" * 1000
    with pytest.raises(DataError) as caught:
        read_bounded(path, 999)
    assert str(caught.value) == f"{path}: file is larger than 999 bytes."


@pytest.mark.parametrize(("size", "limit"), [(0, 5), (5, 5), (70_000, 70_000), (70_000, 99_999)])
def test_what_has_no_size_of_its_own_is_read_to_its_end_within_the_limit(tmp_path, size, limit):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"x" * size,))
    writer.start()
    assert read_bounded(pipe, limit) == b"x" * size
    writer.join()


def test_json_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "new" / "a.json"
    value = {"name": "Gänseblümchen 🌼", "numbers": [1, 2.5, None, True]}
    write_json(path, value)
    assert read_json(path) == value
    assert "Gänseblümchen 🌼" in path.read_text(encoding="utf-8")
    assert path.read_text(encoding="utf-8").endswith("}\n")


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", "\ufeff", "[" * 200_000])
def test_what_is_not_json_is_refused_with_the_files_name(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="file is not valid JSON") as caught:
        read_json(path)
    assert caught.value.where == str(path)


def test_bytes_that_are_not_text_are_not_json(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'{"a": "\xff\xfe"}')
    with pytest.raises(DataError, match="file is not valid JSON"):
        read_json(path)


def test_json_above_the_limit_is_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(["x" * 100]))
    with pytest.raises(DataError, match="file is larger than 50 bytes"):
        read_json(path, limit=50)


@pytest.mark.parametrize("name", ["a.jpg", "a/b c/ü.jpg", "./a.jpg", "a/../b.jpg", "..a/b..jpg"])
def test_a_name_below_a_folder_is_found_there(tmp_path, name):
    assert inside(tmp_path, name) == (tmp_path / name).resolve()


@pytest.mark.parametrize("name", ["../a.jpg", "a/../../b.jpg", "/etc/passwd", "..", "a/../.."])
def test_inside_refuses_a_name_that_leads_out(tmp_path, name):
    with pytest.raises(DataError) as caught:
        inside(tmp_path, name)
    assert str(caught.value) == f"{tmp_path}: path {name!r} leaves the folder."


def test_inside_refuses_a_neighbour_with_the_same_beginning(tmp_path):
    with pytest.raises(DataError, match="leaves the folder"):
        inside(tmp_path / "photos", "../photos-private/a.jpg")


def test_inside_refuses_a_link_that_leads_out(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(DataError, match="leaves the folder"):
        inside(folder, "link/secret.txt")


def test_inside_refuses_a_link_that_leads_in_a_circle(tmp_path):
    (tmp_path / "self").symlink_to("self")
    with pytest.raises(DataError):
        inside(tmp_path, "self")


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("ab./\\ \0~$%ü"), max_size=12))
def test_whatever_a_stranger_writes_stays_inside_or_is_refused(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp().resolve() / "photos"
    try:
        found = inside(folder, name)
    except DataError:
        return
    assert found.is_relative_to(folder)


def test_a_written_file_holds_the_text_as_utf_8_and_nothing_stands_beside_it(tmp_path):
    path = tmp_path / "deep" / "er" / "a.txt"
    write_atomic(path, "größer")
    assert path.read_bytes() == "größer".encode()
    assert names(path.parent) == ["a.txt"]


def test_a_written_file_takes_the_users_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a.txt", "x")
        with atomic_folder(tmp_path / "folder") as part:
            (part / "b.txt").write_text("y")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750


def test_a_full_disk_leaves_the_old_file_and_no_half_of_the_new(tmp_path):
    path = tmp_path / "a.txt"
    write_atomic(path, "old")
    with no_room_above(1000), pytest.raises(OutputError) as caught:
        write_atomic(path, "x" * 10_000)
    assert str(caught.value) == f"{path}: {FULL}"
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_full_disk_leaves_the_old_folder_and_no_half_of_the_new(tmp_path):
    path = tmp_path / "model"
    with atomic_folder(path) as part:
        (part / "weights").write_text("old")
    with no_room_above(1000), pytest.raises(OutputError) as caught, atomic_folder(path) as part:
        (part / "weights").write_text("x" * 10_000)
    assert str(caught.value) == f"{path}: {FULL}"
    assert (path / "weights").read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_a_read_only_place_is_told_in_one_sentence(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    with read_only(folder):
        with pytest.raises(OutputError) as file:
            write_atomic(folder / "a.txt", "x")
        with pytest.raises(OutputError) as whole, atomic_folder(folder / "model"):
            pass
    tail = "cannot write here (permission denied). Choose another place "
    assert str(file.value) == f"{folder / 'a.txt'}: {tail}with --out."
    assert str(whole.value) == f"{folder / 'model'}: {tail}with --out."
    assert names(folder) == []


@pytest.mark.parametrize("below", ["a.txt", "deeper/a.txt"])
def test_a_place_below_a_file_is_told_in_one_sentence(tmp_path, below):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(OutputError, match=r"cannot write here \("):
        write_atomic(tmp_path / "notes" / below, "x")
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("old")
    with pytest.raises(OutputError, match=r"cannot write here \(is a directory\)"):
        write_atomic(tmp_path / "model", "x")
    assert (tmp_path / "model" / "weights").read_text() == "old"
    assert names(tmp_path) == ["model"]


def fill_and_fail(path, error):
    with atomic_folder(path) as part:
        (part / "weights").write_text("new")
        raise error


def test_a_failure_while_a_folder_is_filled_leaves_the_old_one(tmp_path):
    path = tmp_path / "model"
    with atomic_folder(path) as part:
        (part / "weights").write_text("old")
    with pytest.raises(ZeroDivisionError):
        fill_and_fail(path, ZeroDivisionError())
    assert (path / "weights").read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_ctrl_c_while_a_folder_is_filled_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fill_and_fail(tmp_path / "model", KeyboardInterrupt())
    assert names(tmp_path) == []


def test_a_finished_folder_takes_the_whole_place_of_the_old_one(tmp_path):
    path = tmp_path / "model"
    with atomic_folder(path) as part:
        (part / "weights").write_text("old")
        (part / "extra").write_text("old")
    with atomic_folder(path) as part:
        (part / "weights").write_text("new")
        assert (path / "extra").read_text() == "old"
    assert names(path) == ["weights"]
    assert (path / "weights").read_text() == "new"
    assert names(tmp_path) == ["model"]


def test_an_old_folder_is_put_back_when_the_new_one_cannot_take_its_place(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "weights").write_text("old")
    with pytest.raises(FileNotFoundError), atomic_folder(path) as part:
        shutil.rmtree(part)
    assert (path / "weights").read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_a_folder_is_renamed_into_an_empty_place(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "a").write_text("x")
    replace_folder(tmp_path / "part", tmp_path / "whole")
    assert names(tmp_path) == ["whole"]
    assert (tmp_path / "whole" / "a").read_text() == "x"


def test_readers_see_the_old_file_or_the_new_one_and_never_a_mixture(tmp_path):
    path = tmp_path / "a.txt"
    contents = ["a" * 50_000, "b" * 50_000]
    write_atomic(path, contents[0])
    done = threading.Event()
    seen = []

    def read():
        while not done.is_set():
            seen.append(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(50):
        write_atomic(path, contents[i % 2])
    done.set()
    reader.join()
    assert seen
    assert set(seen) <= set(contents)


def test_an_error_that_is_not_the_places_fault_passes_unchanged(tmp_path):
    with pytest.raises(FileNotFoundError), writing_errors(tmp_path):
        (tmp_path / "missing").read_text()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_space_is_to_be_freed_where_there_is_none(tmp_path, number):
    hint = r"Free some space, or choose another place with --out"
    with pytest.raises(OutputError, match=hint), writing_errors(tmp_path):
        raise OSError(number, "no space")


def test_the_size_of_a_folder_counts_all_files_below_it(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "one").write_bytes(b"x" * 10)
    (tmp_path / "a" / "b" / "two").write_bytes(b"x" * 5)
    assert folder_bytes(tmp_path) == 15


def test_a_record_is_read_back_without_its_format(tmp_path):
    path = tmp_path / "leaf.json"
    write_record(path, 2, {"name": "leaf"})
    assert path.read_text() == '{\n  "format": 2,\n  "name": "leaf"\n}\n'
    assert read_record(path, "leaf", 2) == {"name": "leaf"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[]", "not a valid leaf file."),
        ('{"format": "2"}', "not a valid leaf file."),
        ('{"format": true}', "not a valid leaf file."),
        ('{"format": 3}', "leaf was written by a newer acclimate. Upgrade acclimate."),
    ],
)
def test_what_is_not_a_record_is_refused(tmp_path, content, told):
    path = tmp_path / "leaf.json"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        read_record(path, "leaf", 2)
    assert str(caught.value) == f"{path}: {told}"


@pytest.mark.parametrize("is_folder", [False, True])
def test_what_acclimate_did_not_write_is_never_replaced(tmp_path, is_folder):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError) as caught:
        claim(tmp_path, is_ours=lambda _: False, replace=True, is_folder=is_folder)
    assert str(caught.value) == (
        f"{tmp_path}: already exists and was not written by acclimate. "
        "Choose another place with --out."
    )


def test_what_acclimate_wrote_is_replaced_only_if_it_may_be(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    claim(tmp_path, is_ours=lambda _: True, replace=True)
    with pytest.raises(OutputError) as caught:
        claim(tmp_path, is_ours=lambda _: True, replace=False)
    assert str(caught.value) == (
        f"{tmp_path}: already exists. Choose another place with --out, or replace it with --force."
    )


def test_a_free_place_may_be_claimed(tmp_path):
    claim(tmp_path / "new", is_ours=lambda _: False, replace=False)
    claim(tmp_path, is_ours=lambda _: False, replace=False, is_folder=True)
    with pytest.raises(OutputError):
        claim(tmp_path, is_ours=lambda _: False, replace=True)
