"""Counts how often `policy: auto` gives the same answer for other images of the same data.

From each data set it draws some images a few times, splits them into train, val and test, and tests
the augmentations. A table shows how often each was kept, and a second one how often it got its most
common strength. Run it with:

    python benchmarks/augmentation_steadiness.py --data flowers/ --data digits/
    python benchmarks/augmentation_steadiness.py --images 400 --image-size 128 --data flowers/

Without --data the images are scikit-learn's digits.
"""

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from acclimate.augmentation.auto_policy import auto_policy
from acclimate.augmentation.evidence import Evidence
from acclimate.cleaning.clean import clean
from acclimate.context import Context
from acclimate.data.dataset import Dataset, balanced_sample
from acclimate.data.sample_data import write_digits
from acclimate.data.sources.read import read
from acclimate.models.classifier import Classifier
from acclimate.models.pretrained import pretrained
from acclimate.models.settings import Model

TRAIN, VAL = 0.6, 0.15
Answers = dict[str, list[float]]
"""Name of an operation to the strength that it got in each draw; 0 if it was refused."""


def draw(dataset: Dataset, images: int, seed: int) -> Dataset:
    """Some usable images, balanced over the classes and split at random."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(balanced_sample(dataset, np.flatnonzero(dataset.keep), images, rng))
    keep = np.zeros(len(dataset), bool)
    keep[rows] = True
    split = np.full(len(dataset), "test", object)
    train, val = round(TRAIN * len(rows)), round(VAL * len(rows))
    split[rows[:train]], split[rows[train : train + val]] = "train", "val"
    return dataset.with_columns({"keep": keep, "split": list(split)})


def answers(model: Classifier, folder: Path, args: argparse.Namespace, context: Context) -> Answers:
    dataset = clean(read(folder), context=context)
    found: Answers = {}
    for number in range(args.draws):
        began = time.perf_counter()
        part = draw(dataset, args.images, args.seed + number)
        for line in auto_policy(model, part, context=context).evidence:
            found.setdefault(line.operation, []).append(strength_of(line))
        print(f"{folder.name} {number}: {time.perf_counter() - began:.1f} s", flush=True)
    return found


def strength_of(line: Evidence) -> float:
    return line.strength if line.kept else 0.0


def print_table(title: str, rows: dict[str, list[str]], names: list[str]) -> None:
    print(f"\n| {title} | {' | '.join(names)} |")
    print("| --- |" + " --- |" * len(names))
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |")


def most_common(values: list[float]) -> str:
    value, times = Counter(values).most_common(1)[0]
    return f"{times} at {value:g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found: dict[str, Answers] = {}
    with tempfile.TemporaryDirectory() as name:
        context = Context(seed=0, device="cpu", cache=Path(name) / "cache")
        model = pretrained(Model(image_size=args.image_size))
        folders = args.data or [Path(name) / "digits"]
        if not args.data:
            write_digits(folders[0])
        for folder in folders:
            found[folder.name] = answers(model, folder, args, context)
    operations = list(next(iter(found.values())))
    kept = {o: [sum(s > 0 for s in answer[o]) for answer in found.values()] for o in operations}
    rows = {name: [str(count) for count in counts] for name, counts in kept.items()}
    least = 0.9 * args.draws
    steady = [
        sum(max(kept[o][i], args.draws - kept[o][i]) >= least for o in operations)
        for i in range(len(found))
    ]
    rows["agree in nine of ten"] = [f"{count} of {len(operations)}" for count in steady]
    print_table(f"kept in {args.draws} draws", rows, list(found))
    strengths = {o: [most_common(answer[o]) for answer in found.values()] for o in operations}
    print_table("most common strength", strengths, list(found))


if __name__ == "__main__":
    main()
