"""The log of a store: what happened to its versions and aliases, signed, and only ever appended to.

Each line is a JSON object with the digest of the line before it and a signature. The log decides
which versions there are and which is the champion; MLflow's database is compared with it.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from acclimate.errors import DataError, ModelFileError, NotTrusted
from acclimate.files import digest_bytes
from acclimate.registry.database import LOG_FILE
from acclimate.registry.reference import check_name
from acclimate.registry.seen_logs import check_seen, last_seen, remember
from acclimate.registry.signing import Signer
from acclimate.regular_files import read_regular

REGISTER, PROMOTE, ROLLBACK, DELETE, GC = "register", "promote", "rollback", "delete", "gc"
_MOVES = (PROMOTE, ROLLBACK)
_MAX_BYTES = 256 << 20
_DOMAIN = b"acclimate store log 1\n"
"""Before what is signed, so that no signature of the same key for something else fits."""


@dataclass(frozen=True)
class Entry:
    """One line of the log.

    Attributes:
        action: What was done: `REGISTER`, `PROMOTE`, `ROLLBACK`, `DELETE` or `GC`.
        model: Name of the model.
        number: Number of the version.
        time: UTC, ISO 8601.
        previous: Digest of the line before; empty in the first one.
        record: What the version is, if it was registered: digest, parent, figures.
    """

    action: str
    model: str
    number: int
    time: str
    previous: str
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """What the log says.

    Attributes:
        entries: Oldest first.
        digests: Of the lines.
        end: Bytes of the file that are whole lines.
    """

    entries: Sequence[Entry] = ()
    digests: Sequence[str] = ()
    end: int = 0

    @property
    def head(self) -> str:
        """The digest of the last line; empty if there is none."""
        return self.digests[-1] if self.digests else ""

    def names(self) -> list[str]:
        """The names of the models that have a version."""
        return sorted({entry.model for entry in self.entries if self.live(entry.model)})

    def registered(self, model: str) -> dict[int, Mapping[str, Any]]:
        """Number to record of every version that ever was."""
        return {e.number: e.record for e in self.of(model) if e.action == REGISTER}

    def live(self, model: str) -> dict[int, Mapping[str, Any]]:
        """Number to record of the versions that were not deleted."""
        gone = {entry.number for entry in self.of(model) if entry.action in (DELETE, GC)}
        return {n: record for n, record in self.registered(model).items() if n not in gone}

    def champions(self, model: str, *, back: int = 0) -> list[int]:
        """The champion last, and before it those that a rollback goes back to.

        Args:
            model: Name of the model.
            back: How many of the last moves are left out.

        Returns:
            Numbers of versions; empty if none was promoted.
        """
        moves = [entry for entry in self.of(model) if entry.action in _MOVES]
        found: list[int] = []
        for entry in moves[: len(moves) - back]:
            if entry.action == PROMOTE:
                found.append(entry.number)
            else:  # to the last one of that number
                while found and found[-1] != entry.number:
                    found.pop()
        return found

    def last_move(self, model: str) -> Entry | None:
        """The last promotion or rollback of a model."""
        return next((e for e in reversed(self.of(model)) if e.action in _MOVES), None)

    def head_of(self, model: str) -> str:
        """The digest of the last line about a model; empty if there is none."""
        pairs = zip(self.entries, self.digests, strict=True)
        return next((d for e, d in reversed(list(pairs)) if e.model == model), "")

    def of(self, model: str) -> list[Entry]:
        """The entries of a model."""
        return [entry for entry in self.entries if entry.model == model]


class AuditLog:
    """The log of one store.

    Args:
        store: Folder of the store.
        signer: Signs new lines, and verifies all.
    """

    def __init__(self, store: Path, signer: Signer) -> None:
        self.path, self._signer, self._store = store / LOG_FILE, signer, store
        self._verified: set[str] = set()

    def read(self, *, verified: bool = True) -> History:
        """Reads and verifies the log.

        Args:
            verified: False is to read it whatever its signatures are.

        Returns:
            What it says. A last line without its end is left out: a process was killed there.

        Raises:
            NotTrusted: A line was changed, added or removed, or another key signed it, or the log
                is older than the one that this user saw last.
        """
        seen = last_seen(self._store)
        try:
            content = read_regular(self.path, _MAX_BYTES)
        except FileNotFoundError:
            content = b""
        except DataError as error:
            raise NotTrusted(error.message, where=self.path) from error
        end = content.rfind(b"\n") + 1
        lines = content[:end].split(b"\n")[:-1]
        entries = [self._parsed(line, number) for number, line in enumerate(lines, 1)]
        history = History(entries, [digest_bytes(line) for line in lines], end)
        if verified:
            self._verify(lines, history)
            check_seen(self._store, seen, history.digests)
            remember(self._store, history.digests)
        return history

    def append(self, history: History, action: str, model: str, number: int,
               record: Mapping[str, Any] | None = None) -> History:  # fmt: skip
        """Signs and appends a line, under the lock of the store.

        Args:
            history: The log as it was read under the same lock.
            action: What was done.
            model: Name of the model.
            number: Number of the version.
            record: What the version is, if it was registered.

        Returns:
            The log with the new line.

        Raises:
            OutputError: There is no private key.
        """
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        entry = Entry(action, model, number, now, history.head, record or {})
        fields = asdict(entry)
        line = _as_line({**fields, "signature": self._signer.sign_bytes(_signed(fields))})
        with self.path.open("ab") as stream:
            stream.truncate(history.end)  # what a killed process left of a line
            try:
                stream.write(line + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
            except OSError:
                stream.truncate(history.end)
                raise
        digests = [*history.digests, digest_bytes(line)]
        remember(self._store, digests)
        return History([*history.entries, entry], digests, history.end + len(line) + 1)

    def _parsed(self, line: bytes, number: int) -> Entry:
        try:
            fields = json.loads(line)
            entry = Entry(**{name: fields[name] for name in Entry.__dataclass_fields__})
            check_name(entry.model)  # it becomes part of a path
            datetime.fromisoformat(entry.time)
            texts = [entry.action, entry.previous]
            if entry.action == REGISTER:
                record = entry.record
                datetime.fromisoformat(record["created"])
                texts += [record["digest"], record["parent"] or "", *record["facts"].values()]
            if type(entry.number) is not int or not all(isinstance(text, str) for text in texts):
                raise TypeError
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError,
                ModelFileError) as error:  # fmt: skip
            raise self._broken(number, "is not a log entry") from error
        return entry

    def _verify(self, lines: Iterable[bytes], history: History) -> None:
        before = ""
        for number, (line, entry) in enumerate(zip(lines, history.entries, strict=True), 1):
            if entry.previous != before:
                raise self._broken(number, "does not follow the line before it")
            before = history.digests[number - 1]
            if before in self._verified:
                continue
            signature = json.loads(line).get("signature")
            fields = asdict(entry)
            # Compared as bytes: what is not signed, such as another field, cannot be in a line.
            whole = line == _as_line({**fields, "signature": signature})
            if not whole or not self._signer.verify_bytes(_signed(fields), str(signature)):
                raise self._broken(number, "is not signed by a trusted key")
            self._verified.add(before)

    def _broken(self, number: int, fault: str) -> NotTrusted:
        return NotTrusted(
            f"line {number} of the store's log {fault}.",
            where=self.path,
            hint="Restore the store from a copy, or add the public key of who signed it to the "
            "trusted keys.",
        )


def check_has_log(store: Path, history: History, listed: Iterable[str]) -> None:
    """Checks that the models in a database were registered with a log.

    Args:
        store: Folder of the store.
        history: Its log.
        listed: Names in its database.

    Raises:
        ModelFileError: There is no log.
    """
    if not history.entries and any(listed):
        raise ModelFileError(
            "the store lists models, but has no log: an older acclimate wrote it, or the log was "
            "removed.",
            where=store,
            hint="Restore the log from a copy, or register the models again in another store.",
        )


def _signed(fields: Mapping[str, Any]) -> bytes:
    return _DOMAIN + _as_line(fields)


def _as_line(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
