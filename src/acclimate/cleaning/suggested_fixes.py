"""Turns the flags of a data set into a fix list that a person can edit and apply."""

from typing import Any, Literal

from acclimate.cleaning.checks import FLAGS, severity
from acclimate.cleaning.summary import readable
from acclimate.cleaning.twins import Twins
from acclimate.data.dataset import FIX_FLAG_PREFIX, HOME, Dataset
from acclimate.data.sources.fix_list import Fix, is_marked_keep

_INSPECTED = ("label_error", "outlier")
"""Flags of the inspection stage, each with a score of its own name. They are often wrong, so they
only suggest a review: of 150 flowers all four labels flagged were right."""
_READ = (
    "path", "label", "split", "domain", "flags", "suggested_label", "label_error", "outlier",
    "near_duplicate",
)  # fmt: skip


def suggest_fixes(dataset: Dataset) -> list[Fix]:
    """Suggests one action for each image of the main domain that somebody should look at.

    Copies and leaks are suggested for dropping, in train alone. All else that may be wrong is for
    review, which changes nothing until a person writes another action. Leaks and conflicting
    labels are listed even if they were left out. Flags of image quality alone are no reason.

    Args:
        dataset: Cleaned. Only inspected data has suggested labels.

    Returns:
        Leaks and conflicting labels first, next to their twins; then the most suspicious labels,
        then all others. Each path once.
    """
    columns = {name: dataset.table[name].to_pylist() for name in _READ}
    twins = Twins(dataset)
    found: dict[str, tuple[tuple[object, ...], Fix]] = {}
    for row, flags in enumerate(columns["flags"]):
        own = _listed(flags or [])
        is_leak = severity(own) is not None
        wanted = own and (is_leak or dataset.keep[row]) and columns["domain"][row] == HOME
        if wanted and not is_marked_keep(flags):
            fix = _fix(row, own, columns, twins)
            path = twins.path(own[0], row) or fix.path
            pair = (min(fix.path, path), fix.path) if is_leak else ()
            found.setdefault(fix.path, ((_rank(own[0]), pair, -(fix.score or 0), fix.path), fix))
    return [fix for _, fix in sorted(found.values(), key=lambda pair: pair[0])]


def _listed(flags: list[str]) -> list[str]:
    """An image's flags, the worst first; none if no flag is worth a line in the list."""
    own = sorted({f for f in flags if not f.startswith(FIX_FLAG_PREFIX)}, key=_rank)
    return own if any(map(_action, own)) else []


def _action(flag: str) -> Literal["drop", "review"] | None:
    return FLAGS[flag].fix if flag in FLAGS else "review"


def _rank(flag: str) -> int:
    rank = severity([flag])
    if rank is not None:
        return rank
    return 100 + (_INSPECTED.index(flag) if flag in _INSPECTED else 10 + list(FLAGS).index(flag))


def _fix(row: int, flags: list[str], columns: dict[str, list[Any]], twins: Twins) -> Fix:
    safe = columns["split"][row] == "train" and all(_action(flag) != "review" for flag in flags)
    named = {twins.path(f, row) or f: f for f in reversed(flags)}.values()  # each twin once
    texts = [": ".join(filter(None, (readable(f), twins.sentence(f, row)))) for f in named][::-1]
    scores = {"near_leak": "near_duplicate", "near_label_conflict": "near_duplicate"}
    scored = [columns[name] for flag in flags if (name := scores.get(flag, flag)) in columns]
    return Fix(
        columns["path"][row],
        columns["label"][row],
        columns["suggested_label"][row],
        "drop" if safe else "review",
        "; ".join(texts),
        scored[0][row] if scored else None,
    )
