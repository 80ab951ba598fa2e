"""Groups from paths, by a regular expression in `data.group_from`.

Some regular expressions never end on some paths, and a recipe may come from an untrusted source.
Python's `re` cannot be given a time limit, so it runs in a process that can be ended.
"""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from acclimate.data.dataset import HOME
from acclimate.data.sources.row import Row
from acclimate.errors import DataError, RecipeError, count

_SECONDS, _PATHS_PER_SECOND = 10.0, 20_000
"""Time limit: a usual expression takes a microsecond for each path."""
_SCRIPT = """
import json, re, sys
pattern, paths = json.load(sys.stdin)
found = [re.search(pattern, path) for path in paths]
json.dump([m and m[1 if m.re.groups else 0] for m in found], sys.stdout)
"""


def with_groups(rows: list[Row], pattern: str, location: Path, notes: list[str]) -> list[Row]:
    """Gives the user's own images the groups that a regular expression finds in their paths.

    Args:
        rows: As a source lists them.
        pattern: A regular expression; its first group is the image's group, or else all of the
            match.
        location: The folder or list, for messages.
        notes: Extended with the number of groups.

    Returns:
        The same rows. An image that the expression does not match keeps the group it has.

    Raises:
        DataError: The expression matches no path, or gives all images the same group.
        RecipeError: It takes too long.
    """
    own = [place for place, row in enumerate(rows) if row.domain in (None, HOME)]
    found = _search(pattern, [rows[place].path for place in own])
    sizes = Counter(name for name in found if name)
    if len(sizes) < 2:
        message = f"matches no path, such as {rows[own[0]].path!r}" if own else "matches no path"
        if sizes:
            message = f"gives all images the same group, {next(iter(sizes))!r}"
        raise DataError(
            f"data.group_from {pattern!r} {message}.",
            where=location,
            hint="It is searched for in each path within the folder; its first (…) is the group.",
        )
    without = len(own) - sizes.total()
    rest = f"; {count(without, 'image does', 'images do')} not match" if without else ""
    largest = max(sizes.values())
    shown = f"{count(len(sizes), 'group')} of up to {count(largest, 'image')}"
    notes.append(f"data.group_from finds {shown}{rest}.")
    named = {place: name for place, name in zip(own, found, strict=True) if name}
    return [
        replace(row, group=named[place]) if place in named else row
        for place, row in enumerate(rows)
    ]


def _search(pattern: str, paths: list[str]) -> list[str | None]:
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _SCRIPT],
            input=json.dumps([pattern, paths]).encode(),
            stdout=subprocess.PIPE,
            check=True,
            timeout=_SECONDS + len(paths) / _PATHS_PER_SECOND,
        )
    except subprocess.TimeoutExpired as error:
        raise RecipeError(
            f"the regular expression {pattern!r} takes too long on these paths.",
            where="data.group_from",
            hint="Do not repeat what is repeated already, as in (a+)+.",
        ) from error
    found: list[str | None] = json.loads(done.stdout)
    return found
