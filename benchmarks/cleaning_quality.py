"""Faults planted in clean real images: what `clean` and `inspect` find of them, and beside them.

A fault of each kind is planted in so many images; each kind is judged in a data set of its own,
made of the clean images and the planted ones. Recall is the part of the planted images that are
found, precision the part of those found that were planted. What is found in the clean images alone,
before anything is planted, is left out of both and printed: in most folders it is really there.

Three tables: faults; copies that are harder than hashes are made for, by hash alone and with
`features`; and 5 % of the labels swapped (`label_quality.py`). Run:

    python benchmarks/cleaning_quality.py
    python benchmarks/cleaning_quality.py --data photos/ --planted 200 --part copies
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
from acclimate.data.images.decode import read_image
from acclimate.data.sample_data import write_digits
from acclimate.data.sources.read import read
from acclimate.errors import UnreadableImage
from acclimate.models.pretrained import pretrained
from acclimate.models.settings import Model
from label_quality import LABEL_HEAD, label_rows


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


def other_colors(image: Image.Image) -> Image.Image:
    """Warmer by a quarter, and its hues turned by 30 degrees."""
    hue, saturation, value = image.convert("HSV").split()
    turned = Image.merge("HSV", (hue.point(lambda h: (h + 21) % 256), saturation, value))
    red, green, blue = turned.convert("RGB").split()
    warm = red.point(lambda v: min(round(1.25 * v), 255)), green, blue.point(lambda v: v * 3 // 4)
    return Image.merge("RGB", warm)


def turned(degrees: float):
    return changed(lambda image: image.rotate(degrees, Image.Resampling.BICUBIC))


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
HARD = {
    "10 % off each side": (cropped(0.1, 0.1, 0.9, 0.9), NEAR),
    "15 % off each side": (cropped(0.15, 0.15, 0.85, 0.85), NEAR),
    "30 % off one side": (cropped(0.3, 0, 1, 1), NEAR),
    "other colours": (changed(other_colors), NEAR),
    "rotated by 5 degrees": (turned(5), NEAR),
    "rotated by 10 degrees": (turned(10), NEAR),
}
"""Copies that perceptual hashes are not made for."""


def found(folder: Path, kind: str, flags: set[str], features: bool = False) -> set[str]:
    """The files that any of the flags names; both sides of a pair for those that compare."""
    settings = Clean(
        mirrored=kind == "mirrored", rotated=kind.startswith("turned"), features=features, drop=()
    )
    dataset = read(folder)
    for name in settings.checks:
        dataset = CHECKS[name].run(dataset, settings, Context())
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
    write, flags = (KINDS | HARD)[kind]
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


def judged(source: Path, kind: str, number: int, features: bool = False) -> tuple:
    """Precision, recall, files planted, files found before."""
    flags = (KINDS | HARD)[kind][1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "images"
        images = copied(source, folder)
        before = found(folder, kind, flags, features)
        clean = [p for p in images if p.relative_to(folder).as_posix() not in before]
        planted = plant(folder, kind, random.Random(0).sample(clean, min(number, len(clean))))
        after = found(folder, kind, flags, features) - before
    right = len(after & planted)
    return right / len(after) if after else 1.0, right / len(planted), len(planted), len(before)


def faults(source: Path, number: int) -> None:
    print("| planted | precision | recall | files | found before |")
    print("| --- | --- | --- | --- | --- |")
    for kind in KINDS:
        precision, recall, planted, before = judged(source, kind, number)
        print(f"| {kind} | {precision:.3f} | {recall:.3f} | {planted:,} | {before:,} |", flush=True)


def copies(source: Path, number: int) -> None:
    print("| planted | by hash: precision / recall | with features | found before |")
    print("| --- | --- | --- | --- |")
    for kind in HARD:
        alone, both = (judged(source, kind, number, features) for features in (False, True))
        cells = [f"{precision:.3f} / {recall:.3f}" for precision, recall, *_ in (alone, both)]
        print(f"| {kind} | {' | '.join(cells)} | {alone[3]:,}, {both[3]:,} |", flush=True)


def labels(source: Path, number: int) -> None:
    print("\n".join(LABEL_HEAD))
    for line in label_rows(source, pretrained(Model()), seeds=2):
        print(line, flush=True)


PARTS = {"faults": faults, "copies": copies, "labels": labels}


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
    parser.add_argument("--part", choices=PARTS, action="append", help="all where none is given")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        source = args.data
        if source is None:
            source = Path(name) / "digits"
            write_digits(source)
        for part in args.part or PARTS:
            PARTS[part](source, args.planted)
            print(flush=True)


if __name__ == "__main__":
    main()
