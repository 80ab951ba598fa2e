"""Writes archives, reproducibly: the same files give the same bytes."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, cast

from acclimate.files import atomic_file

AddFile = Callable[[str, bytes], None]
"""Takes a name relative to the folder, with slashes, and the content."""
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest date in a ZIP file, so that the archive does not tell when a photo was taken."""
_TIMESTAMP = 315_532_800
_MODE = 0o644
_COMPRESSIONS: dict[str, Literal["bz2", "xz"]] = {
    ".tar.bz2": "bz2", ".tbz2": "bz2", ".tar.xz": "xz", ".txz": "xz",
}  # fmt: skip


@contextmanager
def new_archive(path: Path) -> Iterator[AddFile]:
    """Creates an archive, which appears only if the block ends without an error.

    Args:
        path: Its suffix determines the format: `.zip`, `.tar`, `.tar.gz`, `.tar.bz2`, `.tar.xz`.

    Yields:
        AddFile: Adds one file.

    Raises:
        OutputError: The disk is full or the place is read-only.
    """
    with atomic_file(path) as stream:
        if path.suffix.lower() == ".zip":
            # Images are compressed already.
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as file:
                yield lambda name, content: file.writestr(_zip_info(name), content)
        else:
            with _tar(stream, path.name.lower()) as tar:
                yield lambda name, content: tar.addfile(
                    _tar_info(name, content), io.BytesIO(content)
                )


def _zip_info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _ZIP_DATE)
    info.external_attr = (0o100000 | _MODE) << 16
    return info


def _tar_info(name: str, content: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(content), _TIMESTAMP, _MODE
    return info


@contextmanager
def _tar(stream: IO[bytes], name: str) -> Iterator[tarfile.TarFile]:
    if name.endswith((".gz", ".tgz")):
        # Opened here, since tarfile would write the current time into it.
        with (
            gzip.GzipFile("", "wb", compresslevel=1, fileobj=stream, mtime=0) as packed,
            tarfile.open(fileobj=cast("IO[bytes]", packed), mode="w") as file,
        ):
            yield file
        return
    kind = next((kind for end, kind in _COMPRESSIONS.items() if name.endswith(end)), "")
    with tarfile.open(fileobj=stream, mode=f"w:{kind}") as file:  # type: ignore[call-overload]
        yield file
