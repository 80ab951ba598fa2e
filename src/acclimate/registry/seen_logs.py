"""The last line of each store's log that this user saw, so that an older log is noticed.

It is kept in the user's cache folder, out of the reach of whoever can write to the store. Without
such a folder, nothing is remembered and nothing fails.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from acclimate.cache import cache_folder
from acclimate.errors import AcclimateError, NotTrusted
from acclimate.files import digest_json, write_atomic

Seen = tuple[int, str, str]
"""Number of lines, digest of the last, digest of the first."""


def last_seen(store: Path) -> Seen | None:
    """What was seen last of the log of a store.

    Args:
        store: Folder of the store.

    Returns:
        None if nothing is known.
    """
    return _seen(_place(store))


def check_seen(store: Path, seen: Seen | None, digests: Sequence[str]) -> None:
    """Checks that a log continues the one that was seen last.

    Args:
        store: Folder of the store.
        seen: Asked for before the log was read: another process may have added lines since.
        digests: Of all lines of its log.

    Raises:
        NotTrusted: Lines that were seen are missing.
    """
    if seen is None:
        return
    lines, head, first = seen
    if not digests or digests[0] != first:
        return  # another store was made in the same place
    if len(digests) < lines or digests[lines - 1] != head:
        raise NotTrusted(
            f"the store's log was longer before: {lines:,} lines were seen here, and now it is "
            "an older one.",
            where=store,
            hint=f"If you restored an older copy on purpose, delete {_place(store)}.",
        )


def remember(store: Path, digests: Sequence[str]) -> None:
    """Keeps the last line of a log, unless it is kept already.

    Args:
        store: Folder of the store.
        digests: Of all lines of its log.
    """
    place = _place(store)
    seen = _seen(place)
    if not digests or (seen is not None and seen[0] >= len(digests) and seen[2] == digests[0]):
        return
    text = json.dumps({"store": str(store), "lines": len(digests), "head": digests[-1],
                       "first": digests[0]})  # fmt: skip
    with suppress(OSError, AcclimateError):
        write_atomic(place, text)


def _place(store: Path) -> Path:
    return cache_folder() / "stores" / f"{digest_json(str(store.resolve()))}.json"


def _seen(place: Path) -> Seen | None:
    try:
        record = json.loads(place.read_text(encoding="utf-8"))
        return int(record["lines"]), str(record["head"]), str(record["first"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
