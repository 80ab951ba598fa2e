"""The fix list: what a person decided about images, one line each, applied when data is read.

A line names an image and an action: drop it, relabel it to `suggested_label`, or keep it as it is
and stop flagging it. `suggest_fixes` writes the lines that the flags suggest; a person edits
them; nothing is applied that is not in the list.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from acclimate.data.dataset import FIX_FLAG_PREFIX, HOME, Dataset
from acclimate.data.sources.csv_reader import Line, read_csv
from acclimate.errors import DataError, count, near_names

COLUMNS = ("path", "given_label", "suggested_label", "action", "reason", "score")
DROPPED_REASON = "fix list: dropped"
"""What the reason of an image that a person dropped begins with."""
ACTIONS = ("drop", "relabel", "keep")
_KEEP_FLAG, _RELABEL_FLAG = f"{FIX_FLAG_PREFIX}keep", f"{FIX_FLAG_PREFIX}relabel"
_MAX_FAULTS = 10
"""Faults that are told at once."""


@dataclass(frozen=True, slots=True)
class Fix:
    """What is to be done about one image.

    Attributes:
        path: As the data set writes it.
        given: Its label when the list was written; None where it has none.
        suggested: The label it gets when it is relabelled.
        action: One of `ACTIONS`.
        reason: Why, for people.
        score: How strongly that was suspected, in [0, 1]; None where nothing measured it.
    """

    path: str
    given: str | None
    suggested: str | None
    action: str
    reason: str = ""
    score: float | None = None


def is_marked_keep(flags: Sequence[str] | None) -> bool:
    """Whether a person told to keep an image with these flags as it is."""
    return _KEEP_FLAG in (flags or ())


def fixes_as_csv(fixes: Sequence[Fix]) -> str:
    """The list as text.

    Args:
        fixes: Its lines.

    Returns:
        CSV with a first line of column names.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for fix in fixes:
        score = "" if fix.score is None else f"{fix.score:.3f}"
        given, suggested = fix.given or "", fix.suggested or ""
        writer.writerow([fix.path, given, suggested, fix.action, fix.reason, score])
    return buffer.getvalue()


def apply_fixes(dataset: Dataset, location: Path) -> Dataset:
    """The data set as the list wants it. The files stay as they are.

    Args:
        dataset: As listed.
        location: The list, CSV with at least the columns path and action.

    Returns:
        The same rows: dropped ones with their reason, relabelled and kept ones with a flag, and a
        note that counts them.

    Raises:
        DataError: A line names an unknown image, action or label; each is told with its line.
    """
    if not location.is_file():
        raise DataError("no such file.", where=location, hint="Check the spelling of --fix-list.")
    listed = read_csv(location)
    _check_columns(listed.columns, location)
    domains = dataset.table["domain"].to_pylist()
    places = {path: row for row, path in enumerate(dataset.paths) if domains[row] == HOME}
    columns: dict[str, list[Any]] = {
        name: dataset.table[name].to_pylist() for name in _CHANGED_COLUMNS
    }
    applied: dict[str, int] = {}
    counts = dict.fromkeys(ACTIONS, 0)
    faults = []
    for line in listed.lines:
        fix = _fix(line)
        fault = _fault(fix, columns["label"], places, applied, dataset.classes)
        if fault is not None:
            faults.append(f"{location}:{line.number}: {fault}")
        else:
            applied[fix.path] = line.number
            row = places[fix.path]
            if fix.action == "relabel" and fix.suggested == columns["label"][row]:
                fix = replace(fix, action="keep")  # nothing is changed, and a person looked
            counts[fix.action] += 1
            _apply(fix, row, columns, f"{location.name}:{line.number}")
    if faults:
        more = [f"… and {len(faults) - _MAX_FAULTS:,} more"] if len(faults) > _MAX_FAULTS else []
        raise DataError(
            "\n".join([*faults[:_MAX_FAULTS], *more]),
            hint="Correct the lines; nothing was applied.",
        )
    summary = ", ".join(
        f"{count(n, 'image')} {_ACTION_DONE[action]}" for action, n in counts.items() if n
    )
    note = f"{location.name}: {summary or 'nothing to do'}."
    fixed = dataset.with_columns(columns)
    return type(dataset)(fixed.table, fixed.classes, fixed.root, (*dataset.notes, note))


_CHANGED_COLUMNS = ("label", "split", "keep", "reasons", "flags")
_ACTION_DONE = {"drop": "dropped", "relabel": "relabelled", "keep": "kept as they are"}


def _check_columns(columns: Sequence[str], location: Path) -> None:
    for name in ("path", "action"):
        if name not in columns:
            shown = ", ".join(map(repr, columns)) or "none"
            raise DataError(
                f"fix list has no column {name!r}; it has {shown}.",
                where=f"{location}:1",
                hint=f"Its columns are {', '.join(COLUMNS)}; `acclimate fixes` writes one.",
            )
    unknown = next((name for name in columns if name not in COLUMNS), None)
    if unknown is not None:
        raise DataError(
            f"column {unknown!r} is unknown. {near_names(unknown, COLUMNS)}",
            where=f"{location}:1",
        )


def _fix(line: Line) -> Fix:
    cells = {name: (cell or "").strip() for name, cell in line.cells.items()}
    return Fix(
        cells["path"],
        cells.get("given_label") or None,
        cells.get("suggested_label") or None,
        cells["action"].lower(),
        cells.get("reason", ""),
    )


def _fault(
    fix: Fix,
    labels: Sequence[str | None],
    places: dict[str, int],
    applied: dict[str, int],
    classes: Sequence[str],
) -> str | None:
    """What is wrong with a line, in one sentence; None where nothing is."""
    if fix.path not in places:
        return f"there is no image {fix.path!r} in the data."
    if fix.action not in ACTIONS:
        return f"action {fix.action!r} is unknown. {near_names(fix.action, ACTIONS)}"
    if fix.path in applied:
        return f"image {fix.path!r} has an action already, in line {applied[fix.path]}."
    now = labels[places[fix.path]]
    if fix.given is not None and now not in (fix.given, fix.suggested):
        return f"image {fix.path!r} is {now!r} now, and was {fix.given!r} in the list."
    if fix.action == "relabel":
        if fix.suggested is None:
            return "suggested_label is empty. Write the new label there."
        if fix.suggested not in classes:
            return f"label {fix.suggested!r} is not a class of the data. " + near_names(
                fix.suggested, classes
            )
    return None


def _apply(fix: Fix, row: int, columns: dict[str, list[Any]], where: str) -> None:
    if fix.action == "drop":
        columns["keep"][row] = False
        columns["reasons"][row] = [*columns["reasons"][row], f"{DROPPED_REASON} ({where})"]
        return
    summary = _KEEP_FLAG
    if fix.action == "relabel":
        summary = _RELABEL_FLAG
        columns["label"][row] = fix.suggested
        if columns["split"][row] == "unlabelled":
            columns["split"][row] = None  # it can teach now
    flags = [f for f in columns["flags"][row] or [] if f != summary]
    columns["flags"][row] = [*flags, summary]
