"""Writes files atomically, and computes digests of content."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from acclimate.errors import DataError, OutputError, reason

DIGEST_BYTES = 16
"""128 bits: no accidental collision among 10 million images, and short enough to show."""

AnyPath = str | os.PathLike[str]
"""A path as people write it in Python."""

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Appended:
    """Content to append to a file.

    Attributes:
        path: The file; it need not exist yet.
        end: How many of its bytes are valid; those after them are overwritten.
        parts: What to write there.
    """

    path: Path
    end: int
    parts: Iterable[bytes | memoryview]


def digest_bytes(content: bytes) -> str:
    """The blake2b digest of some bytes, as 32 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).hexdigest()


def digest_json(value: object) -> str:
    """The digest of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return digest_bytes(text.encode())


def digest_file(path: Path) -> str:
    """The digest of a file's content, read in blocks."""
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            state.update(block)
    return state.hexdigest()


def read_bounded(path: Path, limit: int) -> bytes:
    """The bytes of a file, up to a limit, so that a hostile file cannot fill the memory.

    Args:
        path: The file.
        limit: Most bytes to accept.

    Returns:
        The content.

    Raises:
        DataError: The file is larger than the limit.
    """
    with path.open("rb") as stream:
        # Reading up to the limit at once would allocate that much for every small file. A file
        # without a size (a pipe), or one that grows meanwhile, is read on.
        content = stream.read(min(os.fstat(stream.fileno()).st_size, limit) + 1)
        while len(content) <= limit and (
            more := stream.read(min(_BLOCK, limit + 1 - len(content)))
        ):
            content += more
    if len(content) > limit:
        raise DataError(f"file is larger than {limit:,} bytes.", where=path)
    return content


def read_json(path: Path, limit: int = 64 << 20) -> object:
    """The value in a JSON file, up to a limit of its size.

    Args:
        path: The file.
        limit: Most bytes to accept.

    Returns:
        The value.

    Raises:
        DataError: The file is too large or not JSON.
    """
    try:
        return json.loads(read_bounded(path, limit))
    except (ValueError, RecursionError) as error:
        raise DataError(f"file is not valid JSON ({reason(error)}).", where=path) from error


def write_record(path: Path, version: int, fields: Mapping[str, Any]) -> None:
    """Writes fields as JSON, after the number of their format."""
    write_json(path, {"format": version, **fields})


def read_record(path: Path, kind: str, newest: int) -> dict[str, Any]:
    """The fields of a JSON file that `write_record` wrote.

    Args:
        path: The file.
        kind: What it should hold, for messages.
        newest: The newest format that can be read.

    Returns:
        The fields, without the number of their format.

    Raises:
        DataError: The file is not such a record, or was written by a newer version.
    """
    record = read_json(path)
    if not isinstance(record, dict) or type(record.get("format")) is not int:
        raise DataError(f"not a valid {kind} file.", where=path)
    if record.pop("format") > newest:
        raise DataError(
            f"{kind} was written by a newer acclimate.", where=path, hint="Upgrade acclimate."
        )
    return record


def inside(folder: Path, name: str) -> Path:
    """A path below a folder; a name that leads out of it is an error.

    Args:
        folder: The folder to stay in.
        name: A relative path from outside (a list, a manifest).

    Returns:
        The resolved path.

    Raises:
        DataError: The path leaves the folder.
    """
    path = resolved(folder / name)
    if path is None or not path.is_relative_to(folder.resolve()):
        raise DataError(f"path {name!r} leaves the folder.", where=folder)
    return path


def resolved(path: Path) -> Path | None:
    """The real path behind links; None if there is none (a circle of links, a zero byte)."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return None


def as_text(name: str) -> str:
    """The name of a file as text, with bytes that are not text escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def claim(
    path: Path,
    *,
    is_ours: Callable[[Path], bool],
    replace: bool,
    is_folder: bool = False,
    hint: str | None = None,
) -> None:
    """Checks that something may be written at a path, so that nothing of the user's is lost.

    Args:
        path: Where something will be written.
        is_ours: Whether acclimate wrote what exists at a path; called only if something does.
        replace: Whether what acclimate wrote may be replaced.
        is_folder: Whether a folder will be written: an empty one may exist then.
        hint: What to do if the path is taken, in place of the usual sentence.

    Raises:
        OutputError: Something exists at the path that may not be replaced.
    """
    if not path.exists() or (is_folder and path.is_dir() and not any(path.iterdir())):
        return
    another = "Choose another place with --out"
    if not is_ours(path):
        message = "already exists and was not written by acclimate."
        raise OutputError(message, where=path, hint=hint or f"{another}.")
    if not replace:
        way_out = hint or f"{another}, or replace it with --force."
        raise OutputError("already exists.", where=path, hint=way_out)


@contextmanager
def working_alone(folder: Path, *, busy: str, hint: str) -> Iterator[None]:
    """Holds the `.lock` of a folder, for one process at a time.

    Args:
        folder: It is made if it does not exist.
        busy: The message if another process holds it.
        hint: What to do then.

    Yields:
        None: While it is held.

    Raises:
        OutputError: Another process holds it, or it cannot be written.
    """
    from filelock import FileLock, Timeout  # 14 ms, which `--help` need not wait for

    with writing_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise OutputError(busy, where=folder, hint=hint) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def writing_errors(target: Path) -> Iterator[None]:
    """Turns a full disk or a read-only path into one clear message."""
    try:
        yield
    except OSError as error:
        # Only errors of the output path itself, and not of a missing input file.
        if error.errno in _PLACE_FAULTS:
            reason = os.strerror(error.errno or 0).lower()
            raise OutputError(
                f"cannot write here ({reason}).", where=target, hint=_way_out(error.errno)
            ) from error
        raise


def _way_out(number: int | None) -> str:
    """What to do if nothing can be written: another place always helps, space only if it lacks."""
    another = "hoose another place with --out."
    return f"Free some space, or c{another}" if number in _NO_SPACE else f"C{another}"


_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_PLACE_FAULTS = frozenset(
    {
        errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG,
        errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG,
    }
)  # fmt: skip


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears only if the block succeeds: readers see the old or the new, whole.

    Args:
        path: The path of the file; its folder is made.

    Yields:
        IO[bytes]: The file to write to.

    Raises:
        OutputError: The disk is full or the path is read-only.
    """
    with writing_errors(path):
        check_named(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            # mkstemp makes the file private; give it what the user's umask gives any file.
            os.chmod(name, 0o666 & ~umask())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def check_named(path: Path) -> None:
    """Raises an OutputError for a path without a name, such as that of an empty text."""
    if not path.name:
        raise OutputError("cannot be replaced.", where=path, hint="Give a name inside a folder.")


def write_atomic(path: Path, content: bytes | str) -> None:
    """Writes a file atomically: readers see the old or the new, whole.

    Args:
        path: The path of the file; its folder is made.
        content: Bytes, or text written as UTF-8.

    Raises:
        OutputError: The disk is full or the path is read-only.
    """
    with atomic_file(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: object) -> None:
    """Writes a value as indented JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder that appears only if the block succeeds.

    An older folder at the path is replaced last, so a failure never loses it.

    Args:
        path: The path of the folder.

    Yields:
        Path: The folder to fill, beside the path.

    Raises:
        OutputError: The disk is full or the path is read-only.
    """
    with writing_errors(path):
        check_named(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        try:
            os.chmod(part, 0o777 & ~umask())
            yield part
            replace_folder(part, path)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def replace_folder(part: Path, path: Path) -> None:
    """Renames a finished folder to its path, replacing an older one."""
    if path.exists():
        old = path.with_name(f".{path.name}.{os.getpid()}.old")
        os.replace(path, old)
        try:
            os.replace(part, path)
        except BaseException:
            os.replace(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(part, path)


def append_named(rows: Appended, names: Appended) -> None:
    """Appends rows to one file and their names to another, so that a kill leaves no wrong name.

    Names are truncated to their end before a row is written, and written after all rows. A name
    that a kill leaves half written, or without its row, is lost; no name ever refers to the row of
    another.

    Args:
        rows: File, end of what is valid, and what follows.
        names: The same.
    """
    with names.path.open("ab") as stream:
        stream.truncate(names.end)
    with rows.path.open("r+b" if rows.path.exists() else "w+b") as stream:
        stream.seek(rows.end)
        for part in rows.parts:
            stream.write(part)
    with names.path.open("ab") as stream:
        stream.write(b"".join(names.parts))


def free_bytes(folder: Path) -> int:
    """The free space on the disk of an existing folder, in bytes."""
    return shutil.disk_usage(folder).free


def folder_bytes(folder: Path) -> int:
    """The size of all files below a folder, in bytes."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def umask() -> int:
    """The permission bits that new files of this process do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
