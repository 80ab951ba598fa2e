"""Writes a clean copy of the images, without dropped images and without personal metadata.

The copy has `<split>/<class>/<name>` and a metadata.csv, so that Acclimate and Hugging Face's
`imagefolder` read it back with the same labels, splits and groups. It may be a folder or an
archive; a list leaves the images where they are.
"""

import csv
import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from acclimate.context import Context
from acclimate.cpu import usable_cores
from acclimate.data.blocks import blocks
from acclimate.data.dataset import Dataset
from acclimate.data.export.archive_writer import AddFile, new_archive
from acclimate.data.export.copied_image import copied_image, copied_suffix
from acclimate.data.export.csv_writer import LIST_DELIMITERS, write_csv
from acclimate.data.images.samples import BITS, PixelRules
from acclimate.data.settings import Decoding
from acclimate.data.sources.archive_reader import ARCHIVE_SUFFIXES
from acclimate.errors import OutputError
from acclimate.files import atomic_folder, claim

_HERE = Context()
_IMAGES_PER_CORE = 16
"""Images per core that are encoded before they are written."""
_DEFAULT = Decoding()


@dataclass(frozen=True, slots=True)
class _OutputImage:
    row: int
    name: str
    """Relative to the new folder, with slashes."""


def copy_images(
    dataset: Dataset,
    place: Path,
    *,
    lossless: bool = False,
    force: bool = False,
    limits: Decoding = _DEFAULT,
    context: Context = _HERE,
) -> int:
    """Writes the kept images without EXIF, GPS, previews and other metadata.

    JPEG, PNG and WebP files keep their format, and their very pixels if they are upright; others
    become PNG, and AVIF and HEIC become JPEG. The original files are not changed. Other test
    domains are not copied.

    Args:
        dataset: Cleaned.
        place: A folder, which must not exist, or be empty; an archive of one, when it ends in
            `.zip`, `.tar`, `.tar.gz` or the like; a list of where the images are, when it ends in
            `.csv` or `.tsv`. It appears whole or not at all.
        lossless: Write PNG throughout: the very pixels that training sees, five times the size.
        force: Replace the archive or list that stands there; a folder never is.
        limits: The largest file and image.
        context: The run.

    Returns:
        The number of images written or listed.

    Raises:
        OutputError: Something stands at the place, it is a folder inside the data's own, its ending
            is that of a file of another kind, or a list is to be lossless.
        UnreadableImage: A file was damaged after cleaning.
    """
    name = place.name.lower()
    if name.endswith(ARCHIVE_SUFFIXES):
        claim(place, is_ours=Path.is_file, replace=force)
        written: AbstractContextManager[AddFile] = new_archive(place)
    elif name.endswith(tuple(LIST_DELIMITERS)):
        claim(place, is_ours=Path.is_file, replace=force)
        if lossless:
            raise OutputError(
                "a list leaves the images as they are.",
                where=place,
                hint="Leave --lossless out, or choose a new folder or archive with --out.",
            )
        return write_csv(dataset, place, context=context)
    else:
        _check_folder(dataset, place)
        written = _new_folder(place)
    images = list(_output_images(dataset, lossless=lossless))
    with written as add, context.progress.task("copy", len(images)) as task:
        for image_out, content in _contents(dataset, images, limits, lossless=lossless):
            add(image_out.name, content)
            task.advance()
        add("metadata.csv", _metadata(dataset, images).encode())
    return len(images)


def _check_folder(dataset: Dataset, folder: Path) -> None:
    if folder.suffix.lower() == ".parquet":
        raise OutputError(
            "a copy is not a Parquet table.",
            where=folder,
            hint="acclimate clean writes one; choose a folder, an archive or a .csv list.",
        )
    hint = "Choose a new folder with --out."
    claim(folder, is_ours=lambda _: True, replace=False, is_folder=True, hint=hint)
    if folder.resolve().is_relative_to(dataset.root.resolve()):
        raise OutputError(
            f"this place is inside the data's own folder {dataset.root}.",
            where=folder,
            hint="Choose a place beside it with --out.",
        )


@contextmanager
def _new_folder(folder: Path) -> Iterator[AddFile]:
    with atomic_folder(folder) as part:

        def add(name: str, content: bytes) -> None:
            target = part / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)

        yield add


def _contents(
    dataset: Dataset, images: list[_OutputImage], limits: Decoding, *, lossless: bool
) -> Iterator[tuple[_OutputImage, bytes]]:
    """The encoded images in their order; a few at a time, since they are large."""
    rules = PixelRules(bits=dataset.bits or BITS)

    def content(image_out: _OutputImage) -> bytes:
        path = dataset.path(image_out.row)
        return copied_image(path, lossless=lossless, limits=limits, rules=rules)

    cores = usable_cores()
    with ThreadPoolExecutor(cores, "copy") as pool:
        for block in blocks(len(images), _IMAGES_PER_CORE * cores):
            yield from zip(images[block], pool.map(content, images[block]), strict=True)


def _output_images(dataset: Dataset, *, lossless: bool) -> Iterator[_OutputImage]:
    columns = {n: dataset.table[n].to_pylist() for n in ("path", "label", "split")}
    folders = _class_folders(dataset.classes)
    used: set[str] = set()
    for row in dataset.rows().tolist():
        path, label, split = (columns[name][row] for name in ("path", "label", "split"))
        place = f"{split or 'unassigned'}/{folders[label]}" if label is not None else "unlabelled"
        source = Path(path)
        suffix = copied_suffix(dataset.path(row), lossless=lossless)
        yield _OutputImage(row, _unique_name(f"{place}/{_safe_name(source.stem)}", suffix, used))


def _class_folders(classes: tuple[str, ...]) -> dict[str, str]:
    """A folder name for each class, unique even on case-insensitive file systems."""
    used: set[str] = set()
    return {name: _unique_name(_safe_name(name), "", used) for name in classes}


def _safe_name(name: str) -> str:
    """A valid file name on every system; the original label is in metadata.csv."""
    plain = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*]', "_", name).strip(" .")[:100]
    return plain or "_"


def _unique_name(stem: str, suffix: str, used: set[str]) -> str:
    name, number = stem + suffix, 2
    while name.casefold() in used:
        name, number = f"{stem}-{number}{suffix}", number + 1
    used.add(name.casefold())
    return name


def _metadata(dataset: Dataset, images: list[_OutputImage]) -> str:
    columns = {n: dataset.table[n].to_pylist() for n in ("label", "split", "group")}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["file_name", "label", "split", "group"])
    for image_out in images:
        cells = (columns[name][image_out.row] or "" for name in ("label", "split", "group"))
        writer.writerow([image_out.name, *cells])
    return buffer.getvalue()
