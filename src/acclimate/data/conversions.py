"""A clean copy of the images: what was dropped stays away, and so does what photos tell of people.

The copy has `<split>/<class>/<name>` and a metadata.csv, so that it is read back with the same
labels, splits and groups, by us and by Hugging Face's `imagefolder`.
"""

import csv
import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from acclimate.context import Context, usable_cores
from acclimate.data.dataset import Dataset
from acclimate.data.decode import read_image
from acclimate.data.settings import Decoding
from acclimate.errors import OutputError
from acclimate.files import atomic_folder, write_atomic

_HERE = Context()
_QUALITY = 95
"""Of JPEGs, colours at full resolution: twice as large as most cameras write, no visible loss."""
_SLICE = 1024
_DEFAULT = Decoding()
_JPEG = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})


@dataclass(frozen=True, slots=True)
class _Job:
    row: int
    name: str
    """Below the new folder, with slashes."""


def copy_images(
    dataset: Dataset,
    folder: Path,
    *,
    lossless: bool = False,
    bounds: Decoding = _DEFAULT,
    context: Context = _HERE,
) -> int:
    """Writes the kept images anew: upright RGB, without EXIF, GPS, thumbnails or profiles.

    JPEGs become JPEGs of quality 95, everything else PNG. The user's files stay as they are.
    Other test domains are not copied.

    Args:
        dataset: Cleaned.
        folder: Must not exist, or be empty; it appears whole or not at all.
        lossless: Write PNG throughout: the very pixels that training sees, five times the size.
        bounds: What is too large to decode.
        context: The run.

    Returns:
        How many images were written.

    Raises:
        OutputError: Something stands at the place, or it lies inside the data's own folder.
        UnreadableImage: A file broke after it was cleaned.
    """
    _check_place(dataset, folder)
    jobs = list(_jobs(dataset, lossless=lossless))
    with (
        atomic_folder(folder) as part,
        ThreadPoolExecutor(usable_cores(), "copy") as pool,
        context.progress.task("copy", len(jobs)) as task,
    ):

        def write(job: _Job) -> None:
            content = _anew(read_image(dataset.path(job.row), bounds=bounds), job.name)
            target = part / job.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)

        for start in range(0, len(jobs), _SLICE):
            for _ in pool.map(write, jobs[start : start + _SLICE]):
                task.advance()
        write_atomic(part / "metadata.csv", _metadata(dataset, jobs))
    return len(jobs)


def _check_place(dataset: Dataset, folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(
            "something stands here already.", where=folder, hint="Choose a new folder with --out."
        )
    if folder.resolve().is_relative_to(dataset.root.resolve()):
        raise OutputError(
            f"this lies inside the data's own folder {dataset.root}.",
            where=folder,
            hint="Choose a place beside it with --out.",
        )


def _jobs(dataset: Dataset, *, lossless: bool) -> Iterator[_Job]:
    columns = {n: dataset.table[n].to_pylist() for n in ("path", "label", "split")}
    folders = _folders(dataset.classes)
    taken: set[str] = set()
    for row in dataset.rows().tolist():
        path, label, split = (columns[name][row] for name in ("path", "label", "split"))
        place = f"{split or 'unassigned'}/{folders[label]}" if label is not None else "unlabelled"
        old = Path(path)
        suffix = ".jpg" if old.suffix.lower() in _JPEG and not lossless else ".png"
        yield _Job(row, _free(f"{place}/{_safe(old.stem)}", suffix, taken))


def _folders(classes: tuple[str, ...]) -> dict[str, str]:
    """A folder for each class, no two alike even where case does not count."""
    taken: set[str] = set()
    return {name: _free(_safe(name), "", taken) for name in classes}


def _safe(name: str) -> str:
    """A name that is one folder or file on every system; the true label is in metadata.csv."""
    plain = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*]', "_", name).strip(" .")[:100]
    return plain or "_"


def _free(stem: str, suffix: str, taken: set[str]) -> str:
    name, number = stem + suffix, 2
    while name.casefold() in taken:
        name, number = f"{stem}-{number}{suffix}", number + 1
    taken.add(name.casefold())
    return name


def _anew(image: Image.Image, name: str) -> bytes:
    buffer = io.BytesIO()
    if name.endswith(".jpg"):
        image.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    else:
        image.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def _metadata(dataset: Dataset, jobs: list[_Job]) -> str:
    columns = {n: dataset.table[n].to_pylist() for n in ("label", "split", "group")}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["file_name", "label", "split", "group"])
    for job in jobs:
        cells = (columns[name][job.row] or "" for name in ("label", "split", "group"))
        writer.writerow([job.name, *cells])
    return buffer.getvalue()
