"""Class names in one spelling, so that no two classes print alike."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from acclimate.data.sources.row import Row
from acclimate.errors import count, listed

_JOINERS = "\u200c\u200d"
"""Invisible, but they change how the letters beside them look."""
_MAX_NOTES = 5


def class_name(text: str) -> str:
    """One spelling of a class name, whatever system its folder was made on.

    macOS writes `é` as two code points and other systems as one. Invisible characters and spaces
    of other kinds come from spreadsheets and web pages.

    Args:
        text: The name of a folder, or a label.

    Returns:
        The name in Unicode normal form C, without outer spaces, double spaces and invisible
        characters; empty if nothing else is left.
    """
    if not (text.isascii() and text.isprintable()):  # a few names
        seen = (x for x in text if x in _JOINERS or x.isspace() or not _is_invisible(x))
        text = unicodedata.normalize("NFC", "".join(seen))
    return " ".join(text.split())


def _is_invisible(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cf")


def with_class_names(rows: Iterable[Row], notes: list[str]) -> list[Row]:
    """Gives rows the one spelling of their class.

    Args:
        rows: As a source lists them.
        notes: Extended with the names that were spelt in several ways, and with names that differ
            in case only.

    Returns:
        The same rows. A row whose label has no visible character gets a reason.
    """
    spellings: dict[str, dict[str, None]] = defaultdict(dict)
    named = []
    for row in rows:
        if row.label is None:
            named.append(row)
            continue
        name = class_name(row.label)
        if not name:
            blank = row.reason or f"its label {row.label!r} has no visible character"
            named.append(replace(row, label=None, split="unlabelled", reason=blank))
            continue
        spellings[name][row.label] = None
        named.append(row if name == row.label else replace(row, label=name))
    merged = [name for name, ways in spellings.items() if len(ways) > 1]
    notes += [
        f"class {name!r} is spelt in {len(spellings[name])} ways that look the same: read as one."
        for name in merged[:_MAX_NOTES]
    ]
    if len(merged) > _MAX_NOTES:
        notes.append(f"{len(merged) - _MAX_NOTES} more classes are spelt in several ways.")
    notes += _case_notes(list(spellings))
    return named


def _case_notes(names: Sequence[str]) -> list[str]:
    """A note on classes that a person may have meant to be one."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        alike[unicodedata.normalize("NFKC", name).casefold()].append(name)
    pairs = [found for found in alike.values() if len(found) > 1]
    notes = [
        f"classes {' and '.join(map(repr, found))} differ in case only and stay apart: give them "
        "one name if they are one class."
        for found in pairs[:_MAX_NOTES]
    ]
    if len(pairs) > _MAX_NOTES:
        rest = [found[0] for found in pairs[_MAX_NOTES:]]
        others = count(len(rest), "more class has", "more classes have")
        notes.append(f"{others} a twin that differs in case only: {listed(rest)}.")
    return notes
