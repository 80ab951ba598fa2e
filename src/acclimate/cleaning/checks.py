"""The table of all checks, and what their flags mean."""

from collections.abc import Sequence

from acclimate.cleaning import groups, quality, unreadable
from acclimate.cleaning.duplicates import exact, near
from acclimate.cleaning.findings import Check, Flag

CHECKS: dict[str, Check] = {
    "unreadable": unreadable.CHECK,
    "duplicates": exact.CHECK,
    "near_duplicates": near.CHECK,
    "groups": groups.CHECK,
    "quality": quality.CHECK,
}
"""All checks, in the order in which they run by default."""
FLAGS: dict[str, Flag] = {flag.name: flag for check in CHECKS.values() for flag in check.flags}
"""All flags that the checks may set."""


def severity(flags: Sequence[str] | None) -> int | None:
    """The rank of an image's worst flag that makes every later metric wrong.

    Args:
        flags: The image's flags.

    Returns:
        0 for the worst; None if there is no such flag.
    """
    ranks = [FLAGS[flag].severity for flag in flags or () if flag in FLAGS]
    return min((rank for rank in ranks if rank is not None), default=None)
