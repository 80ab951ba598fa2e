"""Fix lists: a person's decisions about images, one per line, applied when data is read.

A line names an image and an action: drop it, relabel it to `suggested_label`, or keep it as it is
and stop flagging it. The action review changes nothing: the image still waits for a decision.
`acclimate fixes` suggests lines from the flags for a person to edit. Nothing is applied that is not
in the list.
"""

import csv
import io
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from acclimate.data.class_names import class_name
from acclimate.data.dataset import FIX_FLAG_PREFIX, HOME, Dataset
from acclimate.data.sources.csv_reader import Line, read_csv
from acclimate.data.sources.row import listed_path
from acclimate.errors import DataError, count, near_names

COLUMNS = ("path", "given_label", "suggested_label", "action", "reason", "score")
DROPPED_REASON = "fix list: dropped"
"""Prefix of the reason of an image that a fix list dropped."""
ACTIONS = ("drop", "relabel", "keep", "review")
_KEEP_FLAG, _RELABEL_FLAG = f"{FIX_FLAG_PREFIX}keep", f"{FIX_FLAG_PREFIX}relabel"
_MAX_FAULTS = 10
"""The largest number of faults in one message."""


@dataclass(frozen=True, slots=True)
class Fix:
    """The decision about one image.

    Attributes:
        path: The path in the data set.
        given: The label when the list was written; None if there was none.
        suggested: The new label for the action "relabel".
        action: One of `ACTIONS`.
        reason: Why, for people.
        score: The score of the finding, in [0, 1]; None if there is none.
    """

    path: str
    given: str | None
    suggested: str | None
    action: str
    reason: str = ""
    score: float | None = None


def is_marked_keep(flags: Sequence[str] | None) -> bool:
    """Whether a fix list says to keep an image with these flags as it is."""
    return _KEEP_FLAG in (flags or ())


def fixes_as_csv(fixes: Sequence[Fix]) -> str:
    """Formats fixes as CSV.

    Args:
        fixes: The decisions.

    Returns:
        CSV with a header.
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
    """Applies a fix list to a data set. The files are not changed.

    Args:
        dataset: As returned by a source.
        location: The list, CSV with at least the columns path and action.

    Returns:
        The same rows: dropped images have a reason, relabelled and kept ones a flag, and a note
        counts them.

    Raises:
        DataError: Some lines name an unknown image, action or label; the message lists them.
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
        fix = _fix(line, places, dataset.root)
        fault = _fault(fix, columns["label"], places, applied, dataset.classes)
        if fault is not None:
            faults.append(f"{location}:{line.number}: {fault}")
        else:
            applied[fix.path] = line.number
            row = places[fix.path]
            if fix.action == "relabel" and fix.suggested == columns["label"][row]:
                fix = replace(
                    fix, action="keep"
                )  # nothing changes, but a person confirmed the label
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
    return replace(fixed, notes=(*dataset.notes, note))


_CHANGED_COLUMNS = ("label", "split", "keep", "reasons", "flags")
_ACTION_DONE = {
    "drop": "dropped",
    "relabel": "relabelled",
    "keep": "kept as they are",
    "review": "left for review",
}


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


def _fix(line: Line, places: Container[str], root: Path) -> Fix:
    cells = {name: (cell or "").strip() for name, cell in line.cells.items()}
    path = cells["path"]
    return Fix(
        path if path in places else listed_path(path, root),
        class_name(cells.get("given_label", "")) or None,
        class_name(cells.get("suggested_label", "")) or None,
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
    """The fault of a line, in one sentence; None if there is none."""
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
    if fix.action == "review":
        return
    if fix.action == "drop":
        columns["keep"][row] = False
        columns["reasons"][row] = [*columns["reasons"][row], f"{DROPPED_REASON} ({where})"]
        return
    summary = _KEEP_FLAG
    if fix.action == "relabel":
        summary = _RELABEL_FLAG
        columns["label"][row] = fix.suggested
        if columns["split"][row] == "unlabelled":
            columns["split"][row] = None  # it has a label now
    flags = [f for f in columns["flags"][row] or [] if f != summary]
    columns["flags"][row] = [*flags, summary]
