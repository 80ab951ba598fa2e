"""The MLflow database of a store: made once and whole, however many processes want it first."""

import logging
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from acclimate.errors import ModelFileError, NotTrusted, OutputError, reason
from acclimate.files import umask, writing_errors

for _logger in ("alembic", "mlflow"):  # they log every table that they create
    logging.getLogger(_logger).setLevel(logging.WARNING)
# They log errors before they raise them.
logging.getLogger("mlflow.store").setLevel(logging.CRITICAL)
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

FORMAT = 1
"""Kept as SQLite's `user_version`, which MLflow does not use: 0 is a database that is not whole."""
_WAIT_S = 600.0
"""How long one process waits for another: longer than it takes to write a model of gigabytes."""
_DATABASE = "mlflow.db"
LOG_FILE = "log.jsonl"
_POOL = "MLFLOW_SQLALCHEMYSTORE_POOLCLASS"


def open_database(store: Path, *, create: bool) -> MlflowClient:
    """Opens the database of a store, and makes it first if wanted.

    Args:
        store: Folder of the store.
        create: Make the store if it does not exist.

    Returns:
        MLflow's client.

    Raises:
        ModelFileError: There is no store, or it was made by another version of acclimate.
        OutputError: The store cannot be made or read.
    """
    database = store / _DATABASE
    with store_errors(store):
        if create or (store.exists() and not store.is_dir()):
            store.mkdir(parents=True, exist_ok=True)
        elif not database.is_file() and not (store / LOG_FILE).is_file():
            raise ModelFileError(
                "there is no store in this folder.",
                where=store,
                hint="Give its folder with --store, or register a model with `acclimate run`.",
            )
        if _format_of(database) != FORMAT:
            with locked(store):
                _make_whole(database)
        client = _client(database)
        with _opening(store), _unpooled():
            client.search_registered_models(max_results=1)  # migrates the tables of an older MLflow
        return client


@contextmanager
def _opening(store: Path) -> Iterator[None]:
    """One process opens the database at a time; not behind those that write, which takes longer."""
    lock = FileLock(store / ".open.lock", timeout=_WAIT_S)
    try:
        lock.acquire()
    except OSError:  # the store is read-only: nothing can be migrated
        yield
        return
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _unpooled() -> Iterator[None]:
    """Engines that are made meanwhile keep no connection open.

    One of a pool would stay with a database that was removed, in place of a new one at its path.
    """
    before = os.environ.get(_POOL)
    os.environ[_POOL] = "NullPool"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_POOL]
        else:
            os.environ[_POOL] = before


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Holds the lock of a store: one process writes at a time, and the others wait.

    Args:
        store: Folder of the store.

    Yields:
        None: While it is held.

    Raises:
        OutputError: Another process holds it for too long, or it cannot be written.
    """
    try:
        with FileLock(store / ".lock", timeout=_WAIT_S):
            yield
    except Timeout as error:
        raise OutputError(
            f"another process has been writing to the store for {_WAIT_S / 60:.0f} minutes.",
            where=store,
            hint="Run again when it has finished.",
        ) from error


@contextmanager
def store_errors(store: Path) -> Iterator[None]:
    """Raises errors of the database as OutputError."""
    with writing_errors(store):
        try:
            yield
        except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
            another = "hoose another store."
            raise OutputError(
                f"cannot write here ({reason(error)}).",
                where=store,
                hint=f"Free some space, or c{another}" if "full" in str(error) else f"C{another}",
            ) from error


def _make_whole(database: Path) -> None:
    """Makes the database, under the lock; one that was left half made is made again."""
    found = _format_of(database)
    if found == FORMAT:
        return  # another process has made it meanwhile
    if found is not None and (found > FORMAT or _has_models(database)):
        age = "a newer" if found > FORMAT else "an older"
        way_out = "Upgrade acclimate." if found > FORMAT else (
            "Choose another store, and register its models there again."
        )  # fmt: skip
        raise ModelFileError(
            f"the store was made by {age} acclimate.", where=database.parent, hint=way_out
        )
    for stale in database.parent.glob(f".{_DATABASE}.*"):
        stale.unlink()
    handle, name = tempfile.mkstemp(prefix=f".{_DATABASE}.", dir=database.parent)
    os.close(handle)
    part = Path(name)
    try:
        with _unpooled():
            _client(part).search_registered_models(max_results=1)  # creates the tables
        with closing(sqlite3.connect(part)) as connection:
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        part.chmod(0o666 & ~umask())
        part.replace(database)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _format_of(database: Path) -> int | None:
    """The format of a database, 0 if it is not whole; None if there is none."""
    if not database.is_file():
        return None
    try:
        with closing(_read_only(database)) as connection:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.DatabaseError as error:
        raise NotTrusted(
            f"the database of the store is damaged ({reason(error)}).",
            where=database,
            hint="If the store has a log, remove the file: it is made again from the log.",
        ) from error


def _has_models(database: Path) -> bool:
    """Whether a database lists models; a half-made one may have no table of them."""
    with closing(_read_only(database)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if "model_versions" not in tables:
            return False
        return bool(connection.execute("SELECT COUNT(*) FROM model_versions").fetchone()[0])


def _read_only(database: Path) -> sqlite3.Connection:
    """A connection that neither makes nor changes the file."""
    return sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)


def _client(database: Path) -> MlflowClient:
    uri = _database_uri(database)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _database_uri(database: Path) -> str:
    """The address of a database, whatever characters its path has.

    With the driver's name, since MLflow makes a folder of the text behind `sqlite:///`.
    """
    uri = str(URL.create("sqlite+pysqlite", database=str(database)).render_as_string())
    if make_url(uri).database != str(database):  # SQLAlchemy 2.0 escapes no `?`
        raise OutputError(
            "the path of a store cannot have a question mark with this SQLAlchemy.",
            where=database.parent,
            hint="Choose another store, or upgrade SQLAlchemy to 2.1.",
        )
    return uri
