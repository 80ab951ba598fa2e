"""Reads a saved data set: the user's information about images, without earlier findings."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from acclimate.data.dataset import FIX_FLAG_PREFIX, HOME, Dataset
from acclimate.data.settings import Source
from acclimate.data.sources.fix_list import DROPPED_REASON
from acclimate.data.sources.row import OUTSIDE, Row, is_inside
from acclimate.errors import DataError

_COLUMNS = ("path", "label", "split", "domain", "group", "flags", "reasons")


def list_saved_dataset(location: Path, source: Source, notes: list[str]) -> Iterator[Row]:
    """Lists the images of a saved data set, so that they can be checked again.

    Labels, splits, groups, domains and the decisions of a fix list stay. Findings are discarded,
    and images that were dropped because of them are checked again.

    Args:
        location: What `Dataset.save` wrote.
        source: How to read it.
        notes: Not used.

    Yields:
        Row: In the table's order.

    Raises:
        DataError: The file is damaged, or of a newer format.
    """
    dataset = Dataset.load(location)
    columns = [dataset.table[name].to_pylist() for name in _COLUMNS]
    for path, label, split, domain, group, flags, reasons in zip(*columns, strict=True):
        if path is None:
            raise DataError("data set is damaged (an image has no path).", where=location)
        decided = tuple(flag for flag in flags or () if flag.startswith(FIX_FLAG_PREFIX))
        reason = _reason(reasons or ())
        inside = (
            domain != HOME or source.allow_outside or is_inside(dataset.root / path, dataset.root)
        )
        if not inside:
            reason = f"path {OUTSIDE} the data set's folder"
        yield Row(path, label, split, group, reason, domain=domain, flags=decided)


def saved_root(location: Path) -> Path:
    """The folder that the paths of a saved data set are relative to.

    Args:
        location: What `Dataset.save` wrote.

    Returns:
        The folder it was read from, or the file's own folder if that no longer exists.
    """
    return Dataset.load(location).root


def _reason(reasons: Sequence[str]) -> str | None:
    """The reason of a fix list to drop an image; the checks find their own reasons again."""
    return next((reason for reason in reasons if reason.startswith(DROPPED_REASON)), None)
