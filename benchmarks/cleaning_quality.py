"""Faults planted in clean real images: what `clean` finds of them, and what it finds beside them.

A fault of each kind is planted in so many images; each kind is judged in a data set of its own,
made of the clean images and the planted ones. Recall is the part of the planted images that are
found, precision the part of those found that were planted. What is found in the clean images alone,
before anything is planted, is left out of both and printed: in most folders it is really there.
Run:

    python benchmarks/cleaning_quality.py
    python benchmarks/cleaning_quality.py --data photos/ --planted 200
"""

import argparse
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageEnhance, ImageFilter

from acclimate.cleaning.clean import CHECKS
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.data.decode import read_image
from acclimate.data.samples import write_digits
from acclimate.data.sources import read
from acclimate.errors import UnreadableImage


def saved(**options) -> Callable[[Image.Image, Path], None]:
    return lambda image, path: image.save(path.with_suffix(".jpg"), **options)


def changed(change: Callable[[Image.Image], Image.Image]) -> Callable[[Image.Image, Path], None]:
    return lambda image, path: change(image).save(path.with_suffix(".png"))


def half(image: Image.Image) -> Image.Image:
    return image.resize((max(image.width // 2, 1), max(image.height // 2, 1)))


def cropped(left: float, top: float, right: float, bottom: float):
    def crop(image: Image.Image) -> Image.Image:
        width, height = image.size
        edges = left * width, top * height, right * width, bottom * height
        return image.crop(tuple(map(round, edges)))

    return changed(crop)


def brighter(factor: float):
    return changed(lambda image: ImageEnhance.Brightness(image).enhance(factor))


def blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(0.02 * min(image.size)))


def cut(image: Image.Image, path: Path) -> None:
    path = path.with_suffix(".jpg")
    image.save(path, quality=90)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


COPIES = {"duplicate", "label_conflict", "leak"}
NEAR = {*COPIES, "near_duplicate", "near_label_conflict", "near_leak"}
KINDS = {
    "exact copy": (None, COPIES),
    "same pixels, as BMP": (lambda i, p: i.save(p.with_suffix(".bmp")), NEAR),
    "JPEG, quality 30": (saved(quality=30), NEAR),
    "half size": (changed(half), NEAR),
    "5 % off each side": (cropped(0.05, 0.05, 0.95, 0.95), NEAR),
    "10 % off two sides": (cropped(0.1, 0.1, 1, 1), NEAR),
    "10 % off one side": (cropped(0.1, 0, 1, 1), NEAR),
    "30 % brighter": (brighter(1.3), NEAR),
    "30 % darker": (brighter(0.7), NEAR),
    "mirrored": (changed(lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT)), NEAR),
    "turned by 90 degrees": (changed(lambda i: i.transpose(Image.Transpose.ROTATE_90)), NEAR),
    "blurred": (changed(blurred), {"blurred"}),
    "dark": (brighter(0.12), {"dark"}),
    "truncated": (cut, {"unreadable"}),
}
"""What is written for an image, and the flags that find it."""


def found(folder: Path, kind: str, flags: set[str]) -> set[str]:
    """The files that any of the flags names; both sides of a pair for those that compare."""
    settings = Clean(mirrored=kind == "mirrored", rotated=kind.startswith("turned"), drop=())
    dataset = read(folder)
    for name in settings.checks:
        dataset = CHECKS[name](dataset, settings, Context())
    if flags == {"unreadable"}:
        return {path for path, keep in zip(dataset.paths, dataset.keep, strict=True) if not keep}
    named = {
        path
        for path, its in zip(dataset.paths, dataset.table["flags"].to_pylist(), strict=True)
        if flags & set(its)
    }
    return named | _others(dataset, named) if flags & NEAR else named


def _others(dataset: Dataset, named: set[str]) -> set[str]:
    originals = zip(dataset.paths, dataset.table["duplicate_of"].to_pylist(), strict=True)
    return {original for path, original in originals if path in named and original is not None}


def plant(folder: Path, kind: str, images: list[Path]) -> set[str]:
    """Writes the faulty images beside the clean ones; the names of both sides."""
    write, flags = KINDS[kind]
    planted = set()
    for image in images:
        place = image.with_name(f"planted-{image.name}")
        if write is None:
            place.write_bytes(image.read_bytes())
        else:
            write(read_image(image), place)
        if flags & NEAR:
            planted.add(image.relative_to(folder).as_posix())
    planted |= {p.relative_to(folder).as_posix() for p in folder.rglob("planted-*")}
    return planted


def judged(source: Path, kind: str, number: int) -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "images"
        images = copied(source, folder)
        before = found(folder, kind, KINDS[kind][1])
        clean = [p for p in images if p.relative_to(folder).as_posix() not in before]
        planted = plant(folder, kind, random.Random(0).sample(clean, min(number, len(clean))))
        after = found(folder, kind, KINDS[kind][1]) - before
    right = len(after & planted)
    precision = right / len(after) if after else 1.0
    return (
        f"| {kind} | {precision:.3f} | {right / len(planted):.3f} | {len(planted):,} | "
        f"{len(before):,} |"
    )


def copied(source: Path, folder: Path) -> list[Path]:
    """One flat class folder an image's own, without splits, and without what cannot be read."""
    paths = []
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        try:
            read_image(path)
        except UnreadableImage:
            continue
        place = folder / path.parent.name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
        paths.append(place)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="clean images; else scikit-learn's digits")
    parser.add_argument("--planted", type=int, default=200, help="images of each kind")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        source = args.data
        if source is None:
            source = Path(name) / "digits"
            write_digits(source)
        print("| planted | precision | recall | files | found before |")
        print("| --- | --- | --- | --- | --- |")
        for kind in KINDS:
            print(judged(source, kind, args.planted), flush=True)


if __name__ == "__main__":
    main()
