"""The log of a store: aliases move through it only, and nothing of it can be changed."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest

from acclimate.cache import cache_folder
from acclimate.errors import ModelFileError, NotTrusted, OutputError
from acclimate.registry import audit_log
from acclimate.registry.keys import KeyFiles
from acclimate.registry.removal import collect, delete, leftovers, unneeded
from acclimate.registry.settings import Register
from acclimate.registry.versions import Registry
from kit import tiny_classifier


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with three versions of leaf, of which 1 and then 3 was promoted. Never changed."""
    folder = tmp_path_factory.mktemp("made")
    registry = Registry(Register(store=folder / "store", key=folder / "key.pem"))
    for seed in range(3):
        registry.publish("leaf", model(seed), facts={"accuracy": f"0.{seed}"})
    registry.promote("leaf", "1")
    registry.promote("leaf", "3")
    return folder


@pytest.fixture
def place(made, tmp_path):
    """A copy of it with its key."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def model(seed):
    return tiny_classifier(("a", "b", "c"), seed=seed)


def opened(place, **options):
    return Registry(Register(store=place / "store", key=place / "key.pem", **options))


def lines(place):
    return (place / "store" / "log.jsonl").read_bytes().splitlines(keepends=True)


def write(place, found):
    (place / "store" / "log.jsonl").write_bytes(b"".join(found))


def edited(line, **changes):
    return json.dumps({**json.loads(line), **changes}, sort_keys=True,
                      separators=(",", ":")).encode() + b"\n"  # fmt: skip


def in_database(place, statement):
    with closing(sqlite3.connect(place / "store" / "mlflow.db")) as connection:
        connection.execute(statement)
        connection.commit()


CHANGES = {
    "another champion": lambda found: [*found[:3], edited(found[3], number=2), found[4]],
    "another figure": lambda found: [edited(found[0], record={
        **json.loads(found[0])["record"], "facts": {"accuracy": "0.99"}}), *found[1:]],
    "another action": lambda found: [*found[:4], edited(found[4], action="rollback")],
    "one line less": lambda found: [*found[:2], *found[3:]],
    "the first line less": lambda found: found[1:],
    "two lines in another order": lambda found: [found[0], found[2], found[1], *found[3:]],
    "a line twice": lambda found: [*found, found[-1]],
    "a line of another store": lambda found: [*found, edited(found[-1], previous="0" * 32)],
    "one more field": lambda found: [*found[:4], edited(found[4], more=1)],
    "no signature": lambda found: [*found[:4], edited(found[4], signature=None)],
    "not JSON": lambda found: [*found, b"{\n"],
    "a name that leads out": lambda found: [*found[:4], edited(found[4], model="../up")],
    "a number that is text": lambda found: [*found[:4], edited(found[4], number="3")],
    "deep": lambda found: [*found, b"[" * 100_000 + b"\n"],
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_log_is_refused(place, change):
    write(place, CHANGES[change](lines(place)))
    with pytest.raises(NotTrusted) as caught:
        opened(place)
    assert caught.value.where == str(place / "store" / "log.jsonl")
    assert caught.value.message.startswith("line ")


def test_what_a_killed_process_left_of_a_line_is_overwritten(place):
    write(place, [*lines(place), b'{"action":"promote"'])
    registry = opened(place)
    assert registry.champion("leaf") == 3
    registry.promote("leaf", "2")
    assert opened(place).champion("leaf") == 2
    assert len(lines(place)) == 6


def test_an_older_log_is_noticed_by_who_saw_the_newer_one(place, made):
    registry = opened(place)
    registry.promote("leaf", "2")
    shutil.rmtree(place / "store")
    shutil.copytree(made / "store", place / "store")
    with pytest.raises(NotTrusted) as caught:
        opened(place)
    assert caught.value.message == (
        "the store's log was longer before: 6 lines were seen here, and now it is an older one."
    )
    seen = next(p for p in (cache_folder() / "stores").iterdir() if str(p) in caught.value.hint)
    seen.unlink()
    assert opened(place).champion("leaf") == 3


def test_lines_that_are_added_while_the_log_is_read_make_it_no_older_one(place, monkeypatch):
    reader, writer = opened(place), opened(place)
    read = audit_log.read_regular

    def read_before_another(path, limit):
        content = read(path, limit)
        monkeypatch.setattr(audit_log, "read_regular", read)
        writer.promote("leaf", "2")
        return content

    monkeypatch.setattr(audit_log, "read_regular", read_before_another)
    assert [reader.history().champions("leaf")[-1] for _ in range(2)] == [3, 2]


def test_without_a_place_to_remember_everything_works(place, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    opened(place).promote("leaf", "2")
    assert opened(place).champion("leaf") == 2


def test_a_store_that_was_made_again_in_the_same_place_is_another_one(place):
    opened(place)
    shutil.rmtree(place / "store")
    assert opened(place).publish("leaf", model(0)).number == 1
    assert opened(place).names() == ["leaf"]


def test_an_alias_that_was_moved_in_the_database_is_refused_with_what_happened(place):
    in_database(place, "UPDATE registered_model_aliases SET version = 2")
    registry = opened(place)
    with pytest.raises(NotTrusted) as caught:
        registry.version("leaf", "champion")
    moved = json.loads(lines(place)[-1])["time"][:19]
    assert caught.value.message == (
        "the database says that champion is version 2, and the log that version 3 became it by "
        f"promote at {moved} UTC."
    )
    assert registry.version("leaf", "2").aliases == ()
    assert registry.promote("leaf", "3").aliases == ("champion",)
    assert opened(place).version("leaf", "champion").number == 3


def test_an_alias_moved_back_by_one_is_refused_too(place):
    in_database(place, "UPDATE registered_model_aliases SET version = 1")
    with pytest.raises(NotTrusted, match="says that champion is version 1"):
        opened(place).version("leaf", "champion")


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE model_version_tags SET value = '0.99' WHERE key = 'accuracy' AND version = 2",
         "the database says accuracy '0.99', and the log '0.1' of leaf/2."),
        ("UPDATE model_version_tags SET value = 'leaf/1' WHERE key = 'digest' AND version = 2",
         "the database says digest 'leaf/1', and the log "),
    ],
)  # fmt: skip
def test_figures_that_the_database_changed_are_refused(place, statement, told):
    in_database(place, statement)
    registry = opened(place)
    with pytest.raises(NotTrusted) as caught:
        registry.load(registry.version("leaf", "2"))
    assert caught.value.message.startswith(told)
    assert registry.versions("leaf")[1].facts["accuracy"] == "0.1"  # listings show the log


def test_another_signed_version_in_the_folder_is_found_out_even_with_equal_weights(place):
    """Number and name are signed too."""
    registry = opened(place)
    registry.publish("bark", model(0))
    folders = place / "store" / "models"
    shutil.rmtree(folders / "leaf" / "1")
    shutil.copytree(folders / "bark" / "1", folders / "leaf" / "1")
    with pytest.raises(NotTrusted, match="a signed model, but another version"):
        registry.load(registry.version("leaf", "1"))


def test_a_database_that_is_lost_is_made_again_from_the_log(place):
    registry = opened(place)
    delete(registry, registry.version("leaf", "2"))
    (place / "store" / "mlflow.db").unlink()
    again = opened(place)
    assert again.version("leaf", "champion").number == 3
    assert again.publish("leaf", model(4)).number == 4
    rows = {int(v.version) for v in again.client.search_model_versions("name='leaf'")}
    assert rows == {1, 3, 4}


def test_models_without_a_log_are_refused_in_one_sentence(place):
    (place / "store" / "log.jsonl").unlink()
    with pytest.raises(ModelFileError) as caught:
        opened(place)
    assert caught.value.message == (
        "the store lists models, but has no log: an older acclimate wrote it, or the log was "
        "removed."
    )


def test_what_is_not_trusted_is_used_with_a_loud_warning_if_that_is_allowed(place, caplog):
    write(place, CHANGES["another champion"](lines(place)))
    registry = opened(place, allow_unsigned=True)
    assert registry.load(registry.version("leaf", "1")).digest == model(0).digest
    assert "NOT VERIFIED, used all the same (--allow-unsigned): " in caplog.text
    with pytest.raises(NotTrusted):
        registry.promote("leaf", "1")


def test_deleting_keeps_the_champion_and_gives_no_number_twice(place):
    registry = opened(place)
    with pytest.raises(ModelFileError, match="is the champion, which cannot be deleted"):
        delete(registry, registry.version("leaf", "3"))
    gone = registry.version("leaf", "1")
    delete(registry, gone)
    assert not gone.folder.exists()
    assert [v.number for v in registry.versions("leaf")] == [2, 3]
    with pytest.raises(ModelFileError, match="has no previous champion"):
        registry.rollback("leaf")
    assert registry.publish("leaf", model(0)).number == 4


def test_gc_keeps_what_a_champion_a_rollback_or_a_lineage_needs(place):
    registry = opened(place)
    made_of = registry.version("leaf", "2").facts["digest"]
    child = registry.publish("bark", model(7), ancestors=[made_of])
    assert child.parent == "leaf/2"
    assert unneeded(registry.history(), keep=1) == []
    assert unneeded(registry.history(), keep=0) == [("bark", 1), ("leaf", 2)]
    left = place / "store" / "models" / "leaf" / ".4.xyz.part"
    left.mkdir()
    assert collect(registry, keep=0) == [("bark", 1), ("leaf", 2)]
    assert [v.number for v in registry.versions("leaf")] == [1, 3]
    assert leftovers(registry, registry.history()) == []
    assert [e.action for e in registry.history().entries[-2:]] == ["gc", "gc"]


def test_a_rotated_key_signs_from_then_on_and_the_old_one_stays_trusted(place):
    keys = KeyFiles(place / "key.pem")
    opened(place)
    old = keys.private.read_bytes()
    keys.rotate()
    assert keys.private.read_bytes() != old
    registry = opened(place)
    registry.load(registry.version("leaf", "1"))
    registry.publish("leaf", model(5))
    assert len(lines(place)) == 6
    again = opened(place)
    again.load(again.version("leaf", "4"))
    for path in keys.trusted.iterdir():
        path.unlink()
    with pytest.raises(NotTrusted, match="line 1 of the store's log is not signed by a trusted"):
        opened(place)


def test_there_must_be_a_key_to_rotate(tmp_path):
    with pytest.raises(OutputError, match="there is no key to replace"):
        KeyFiles(tmp_path / "key.pem").rotate()


def test_a_disk_that_is_full_leaves_the_log_as_it_was(place, monkeypatch):
    registry = opened(place)
    before = lines(place)

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("acclimate.registry.audit_log.os.fsync", full)
        with pytest.raises(OutputError, match="cannot write here"):
            registry.promote("leaf", "2")
    assert lines(place) == before
    assert opened(place).champion("leaf") == 3
