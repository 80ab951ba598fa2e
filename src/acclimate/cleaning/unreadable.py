"""Files that do not decode, found by decoding each file once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from acclimate.cleaning.settings import Clean
from acclimate.context import Context, usable_cores
from acclimate.data.dataset import Dataset
from acclimate.data.decode import measure
from acclimate.errors import DataError, UnreadableImage
from acclimate.files import digest_bytes, read_bounded

_SLICE = 4096


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at a file told."""

    digest: bytes | None
    width: int | None
    height: int | None
    reason: str | None


def unreadable(dataset: Dataset, settings: Clean, context: Context) -> Dataset:
    """Reads and decodes every file once; a bad one is listed and never stops the run.

    Args:
        dataset: As listed.
        settings: The bounds.
        context: The run.

    Returns:
        The data set with `digest`, `width`, `height` filled, and `keep` false where a file failed.
    """
    paths = [dataset.path(row) if keep else None for row, keep in enumerate(dataset.keep)]
    columns = {name: dataset.table[name].to_pylist() for name in _FILLS}
    row = 0
    with (
        ThreadPoolExecutor(usable_cores(), "clean") as pool,
        context.progress.task("clean", len(paths)) as task,
    ):
        # In slices: a future for each of ten million files would be the larger table.
        for start in range(0, len(paths), _SLICE):
            for seen in pool.map(_looker(settings), paths[start : start + _SLICE]):
                if seen is not None:
                    columns["digest"][row] = seen.digest
                    columns["width"][row], columns["height"][row] = seen.width, seen.height
                    if seen.reason is not None:
                        columns["keep"][row] = False
                        columns["reasons"][row] = [*columns["reasons"][row], seen.reason]
                row += 1
                task.advance()
    return dataset.with_columns(columns)


_FILLS = ("digest", "width", "height", "keep", "reasons")


def _looker(settings: Clean) -> Callable[[Path | None], Seen | None]:
    def look(path: Path | None) -> Seen | None:
        if path is None:
            return None
        try:
            content = read_bounded(path, settings.max_file_mb << 20)
        except OSError as error:
            return Seen(None, None, None, f"cannot be read ({error.strerror})")
        except DataError:
            return Seen(None, None, None, f"file is larger than {settings.max_file_mb} MB")
        digest = bytes.fromhex(digest_bytes(content))
        try:
            width, height = measure(content, path, bounds=settings)
        except UnreadableImage as error:
            return Seen(digest, None, None, error.message.rstrip("."))
        return Seen(digest, width, height, None)

    return look
