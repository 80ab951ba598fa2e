"""A data set that was saved, as rows: what its owner said of the images, not what checks found."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from acclimate.data.dataset import FIX_FLAG_PREFIX, HOME, Dataset
from acclimate.data.settings import Source
from acclimate.data.sources.fix_list import DROPPED_REASON
from acclimate.data.sources.row import Row, is_inside
from acclimate.errors import DataError

_COLUMNS = ("path", "label", "split", "domain", "group", "flags", "reasons")


def list_saved_dataset(location: Path, source: Source, notes: list[str]) -> Iterator[Row]:
    """The images of a saved data set, to be looked at anew.

    Labels, splits, groups, domains and what a fix list decided stay; findings, and the images that
    were left out because of them, are judged again.

    Args:
        location: What `Dataset.save` wrote.
        source: How to read it.
        notes: Receives nothing: what was left out when the folder was read is known.

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
            reason = "path leads out of the data set's folder"
        yield Row(path, label, split, group, reason, domain=domain, flags=decided)


def saved_root(location: Path) -> Path:
    """The folder that a saved data set's paths start from.

    Args:
        location: What `Dataset.save` wrote.

    Returns:
        The folder it was read from, or the file's own where that is no more.
    """
    return Dataset.load(location).root


def _reason(reasons: Sequence[str]) -> str | None:
    """A person's reason to leave an image out; the checks' own are found again."""
    return next((reason for reason in reasons if reason.startswith(DROPPED_REASON)), None)
