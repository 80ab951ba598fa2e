"""A cache is never needed: what stands in its place, and what is said."""

import logging
import os
from types import SimpleNamespace

import pytest

from acclimate import cache
from acclimate.cache import cache_folder, temporary_folder, usable_cache


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(place))
    return place


def test_the_cache_follows_the_xdg_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "acclimate"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "acclimate"


def test_a_user_without_a_home_has_a_cache_elsewhere(monkeypatch, temporary, caplog):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(cache.Path, "home", no_home)
    monkeypatch.setattr(cache, "_NO_HOME", temporary / "file" / "none")
    (temporary / "file").touch()
    assert usable_cache(cache_folder()) == temporary_folder() / "cache"


def test_a_cache_that_can_be_written_is_used_without_a_word(tmp_path, caplog):
    assert usable_cache(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert caplog.text == ""


def test_a_cache_that_cannot_be_made_is_said_once_and_replaced(
    tmp_path, temporary, caplog, monkeypatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(3):
        assert usable_cache(cache_folder()) == temporary_folder() / "cache"
    assert caplog.messages == [
        f"cache {tmp_path}/file/acclimate cannot be used (not a directory): "
        f"{temporary_folder()}/cache is used instead. Set XDG_CACHE_HOME to another folder."
    ]


def test_a_cache_on_a_full_disk_is_not_used(tmp_path, temporary, caplog, monkeypatch):
    monkeypatch.setattr(cache, "free_bytes", lambda _: 5e6)
    assert usable_cache(tmp_path / "cache") is None
    assert "(5 MB are free on its disk): nothing is cached. Set the context's cache" in caplog.text


def test_without_any_place_nothing_is_cached(tmp_path, caplog, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    assert usable_cache(tmp_path / "file" / "cache") is None
    assert "(not a directory): nothing is cached." in caplog.text
    assert caplog.records[0].levelno == logging.WARNING


def test_a_temporary_folder_that_others_may_read_is_not_used(temporary):
    own = temporary_folder()
    assert own.stat().st_mode & 0o777 == 0o700
    own.chmod(0o777)
    assert temporary_folder() != own


def test_a_temporary_folder_of_another_user_is_not_used(temporary, monkeypatch):
    own = temporary_folder()
    facts = SimpleNamespace(st_mode=own.lstat().st_mode, st_uid=os.getuid() + 1)
    monkeypatch.setattr(cache.Path, "lstat", lambda _: facts)
    assert temporary_folder() != own
