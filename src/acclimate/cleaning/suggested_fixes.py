"""Turns the flags of a data set into a fix list that a person can edit and apply."""

from acclimate.cleaning.checks import FLAGS
from acclimate.data.dataset import FIX_FLAG_PREFIX, Dataset
from acclimate.data.sources.fix_list import Fix, is_marked_keep

_INSPECTION_SCORES = ("label_error", "outlier")
"""Flags of the inspection stage, each with a column of its own name."""


def suggest_fixes(dataset: Dataset) -> list[Fix]:
    """Suggests one action for each flagged image that is kept, of the main domain only.

    Args:
        dataset: Cleaned. Only inspected data has suggested labels.

    Returns:
        The most suspicious labels first, then the other flagged images.
    """
    table = dataset.table
    columns = {n: table[n].to_pylist() for n in ("label", "suggested_label", "flags")}
    scores = {n: table[n].to_pylist() for n in (*_INSPECTION_SCORES, "near_duplicate")}
    fixes = []
    for row in dataset.rows().tolist():
        flags = [f for f in columns["flags"][row] or [] if not f.startswith(FIX_FLAG_PREFIX)]
        if flags and not is_marked_keep(columns["flags"][row]):
            suggested = columns["suggested_label"][row]
            action = "drop" if any(map(_suggests_drop, flags)) else "keep"
            fixes.append(
                Fix(
                    dataset.paths[row],
                    columns["label"][row],
                    suggested,
                    "relabel" if suggested is not None else action,
                    ", ".join(flags).replace("_", " "),
                    next((scores[name][row] for name in scores if name in flags), None),
                )
            )
    return sorted(fixes, key=lambda fix: (fix.suggested is None, -(fix.score or 0), fix.path))


def _suggests_drop(flag: str) -> bool:
    return FLAGS[flag].suggests_drop if flag in FLAGS else flag == "outlier"
