"""The database of a store: made once by whoever comes first, and never left half made."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from acclimate.errors import ModelFileError, NotTrusted, OutputError
from acclimate.registry.database import FORMAT, open_database

AT_ONCE = """
import os, sys, time
from pathlib import Path
import timm, torch
from acclimate.models.pretrained import wrap
from acclimate.registry.settings import Register
from acclimate.registry.versions import Registry

torch.set_num_threads(1)
processes, folder = int(sys.argv[1]), Path(sys.argv[2])
start, children = time.time() + 0.5, []
for seed in range(processes):
    child = os.fork()
    if child == 0:
        torch.manual_seed(seed)
        model = wrap(timm.create_model("test_efficientnet", num_classes=3))
        time.sleep(max(0, start - time.time()))
        Registry(Register(store=folder / "store", key=folder / "key.pem")).publish("leaf", model)
        os._exit(0)
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The database of an empty store, which takes seconds to make."""
    folder = tmp_path_factory.mktemp("made")
    open_database(folder / "store", create=True)
    return (folder / "store" / "mlflow.db").read_bytes()


@pytest.fixture
def store(tmp_path):
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def change(database, statement):
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(statement)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_processes_that_register_in_a_new_store_at_once_get_a_version_each(tmp_path):
    command = [sys.executable, "-c", AT_ONCE, "4", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(tmp_path / "store" / "mlflow.db")) as connection:
        rows = connection.execute("SELECT version FROM model_versions ORDER BY version")
        assert [number for (number,) in rows] == [1, 2, 3, 4]
    assert {path.name for path in tmp_path.iterdir()} == {"store", "key.pem", "key.pub.pem"}


@pytest.mark.parametrize("left", ["nothing", "a few tables", "all tables, without the last step"])
def test_a_database_that_was_left_half_made_is_made_again(store, made, left):
    database = store / "mlflow.db"
    database.write_bytes(made if left.startswith("all") else b"")
    change(database, "CREATE TABLE registered_models (name); PRAGMA user_version = 0;" * (
        left == "a few tables"
    ) + "PRAGMA user_version = 0;" * left.startswith("all"))  # fmt: skip
    (store / ".mlflow.db.killed").write_bytes(b"of a process that was killed")
    client = open_database(store, create=False)
    client.create_registered_model("leaf")
    assert [model.name for model in client.search_registered_models()] == ["leaf"]
    assert {path.name for path in store.iterdir()} == {"mlflow.db", ".lock", ".open.lock"}


def test_a_store_of_another_format_is_one_sentence_and_is_left_as_it_is(store, made):
    database = store / "mlflow.db"
    database.write_bytes(made)
    row = "INSERT INTO registered_models (name) VALUES ('leaf');"
    row += "INSERT INTO model_versions (name, version) VALUES ('leaf', 1);"
    for version, told in (
        (0, "an older acclimate. Choose another store, and register its models there again."),
        (FORMAT + 1, "a newer acclimate. Upgrade acclimate."),
    ):
        change(database, f"{row if version == 0 else ''} PRAGMA user_version = {version};")
        before = database.read_bytes()
        with pytest.raises(ModelFileError) as caught:
            open_database(store, create=True)
        assert str(caught.value) == f"{store}: the store was made by {told}"
        assert database.read_bytes() == before


def test_a_damaged_database_is_named(store):
    (store / "mlflow.db").write_bytes(b"not a database at all, but a text" * 100)
    with pytest.raises(NotTrusted) as caught:
        open_database(store, create=True)
    assert caught.value.where == str(store / "mlflow.db")
    assert caught.value.message.startswith("the database of the store is damaged (")


def test_a_full_disk_leaves_no_half_made_store(store, monkeypatch):
    def full(*_, **__):
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("acclimate.registry.database.sqlite3.connect", full)
        with pytest.raises(OutputError) as caught:
            open_database(store, create=True)
    assert caught.value.hint == "Free some space, or choose another store."
    assert {path.name for path in store.iterdir()} == {".lock"}
