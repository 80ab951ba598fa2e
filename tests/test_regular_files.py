"""Files of strangers: regular ones only, bounded, and each read once."""

import os
import socket
from pathlib import Path

import pytest

from acclimate.errors import DataError
from acclimate.regular_files import read_folder, read_regular


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


KINDS = {
    "a link": lambda path: path.symlink_to("/etc/hostname"),
    "a pipe": os.mkfifo,
    "a socket": a_socket,
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    path = tmp_path / "x"
    KINDS[kind](path.relative_to(tmp_path) if kind == "a socket" else path)
    with pytest.raises(DataError) as caught:
        read_regular(path, 10)
    assert str(caught.value) == f"{path}: is {kind}, not a regular file."


def test_devices_are_refused():
    with pytest.raises(DataError, match="is a device, not a regular file"):
        read_regular(Path("/dev/zero"), 10)


def test_a_pipe_that_takes_the_place_of_a_file_at_the_last_moment_is_refused(tmp_path, monkeypatch):
    """It is opened without waiting, and looked at again after it was opened."""
    path = tmp_path / "x"
    path.write_bytes(b"1")
    opened = os.open

    def exchanged(place, flags):
        path.unlink()
        os.mkfifo(path)
        return opened(place, flags)

    monkeypatch.setattr(os, "open", exchanged)
    with pytest.raises(DataError, match="is a pipe, not a regular file"):
        read_regular(path, 10)


@pytest.mark.parametrize("size", [0, 1, 10])
def test_a_file_is_read_up_to_its_limit(tmp_path, size):
    (tmp_path / "x").write_bytes(b"a" * size)
    assert read_regular(tmp_path / "x", 10) == b"a" * size
    (tmp_path / "x").write_bytes(b"a" * 11)
    with pytest.raises(DataError) as caught:
        read_regular(tmp_path / "x", 10)
    assert caught.value.message == "file is larger than 10 bytes."


def test_a_sparse_file_of_terabytes_costs_no_memory(tmp_path):
    with (tmp_path / "x").open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(DataError, match="larger than 10 bytes"):
        read_regular(tmp_path / "x", 10)


def test_a_folder_is_read_whole_with_the_names_of_its_files(tmp_path):
    files = {"a": b"1", "deep/er/b": b"22", ".hidden": b""}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert read_folder(tmp_path, 3) == files
    with pytest.raises(DataError, match="larger than"):
        read_folder(tmp_path, 2)


def test_an_empty_folder_and_a_link_to_a_folder_are_refused(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        read_folder(tmp_path, 10)
    assert str(caught.value) == f"{tmp_path}: the folder 'deep/er' in it is empty."
    (tmp_path / "deep" / "er").rmdir()
    (tmp_path / "deep").rmdir()
    (tmp_path / "deep").symlink_to("/etc")
    with pytest.raises(DataError, match="is a link, not a regular file"):
        read_folder(tmp_path, 10)
