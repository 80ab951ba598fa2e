"""Few images a class: our fine-tuning, the probe alone, and the plain loop.

The plain loop is Adam at 1e-3 on all layers with a new head. Val has a fifth as many images as
train, at least two a class: whoever has few images has few to choose by. Run it with:

    python benchmarks/small_data.py
    python benchmarks/small_data.py --data flowers/ --image-size 96 --per-class 5 --per-class 25

Without --data the images are scikit-learn's digits.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from acclimate.augmentation.safety import safe_policy
from acclimate.cleaning.clean import clean
from acclimate.context import Context
from acclimate.data.dataset import Dataset, balanced
from acclimate.data.samples import write_digits
from acclimate.data.sources import read
from acclimate.features.probe import probe
from acclimate.models.pretrained import pretrained
from acclimate.models.settings import Model
from acclimate.training.fine_tune import fine_tune
from acclimate.training.settings import FineTune
from shift import accuracy, fresh, plainly


def few(dataset: Dataset, per_class: int, test: int, seed: int) -> Dataset:
    """So many training images of each class, a fifth as many of val, at most so many of test."""
    classes, rng = len(dataset.classes), np.random.default_rng(seed)
    most = {"train": per_class, "val": max(2, per_class // 5)}
    keep = dataset.keep.copy()
    for split, number in (*((s, n * classes) for s, n in most.items()), ("test", test)):
        rows = dataset.rows(split)
        keep[np.setdiff1d(rows, balanced(dataset, rows, number, rng))] = False
    return dataset.with_columns({"keep": keep})


def measure(dataset: Dataset, args: argparse.Namespace, context: Context) -> dict[str, float]:
    """Test accuracy of each method."""
    model, rows = pretrained(Model(image_size=args.image_size)), dataset.rows("test")
    start = probe(model, dataset, context=context)
    network = fresh(model, dataset, context.seed)
    plainly(network, model, dataset, 1e-3, args.plain_epochs, context.seed, frozen_norms=False)
    policy = safe_policy(start, dataset, context=context)
    tuned = fine_tune(start, dataset, policy, FineTune(), context=context)
    networks = {"probe": start.module(), "plain loop": network, "acclimate": tuned.module()}
    return {name: accuracy(some, dataset, model, rows) for name, some in networks.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--per-class", type=int, action="append", default=[])
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--plain-epochs", type=int, default=10)
    parser.add_argument("--test", type=int, default=400, help="Test images, at most.")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        digits = Path(name) / "digits"
        if not args.data:
            write_digits(digits)
        for folder in args.data or [digits]:
            whole = clean(read(folder), context=Context(seed=0))
            for per_class in args.per_class or [5, 10, 25, 100]:
                for seed in range(args.seeds):
                    context = Context(seed=seed, device="cpu", cache=Path(name) / "cache")
                    one = measure(few(whole, per_class, args.test, seed), args, context)
                    found.setdefault((folder.name, per_class), []).append(one)
                    print(json.dumps({"data": folder.name, "per_class": per_class, **one}))
    print("\n| data | images a class | probe | plain loop | acclimate |")
    print("| --- | --- | --- | --- | --- |")
    for (data, per_class), some in found.items():
        cells = [f"{np.mean([r[m] for r in some]):.3f}" for m in some[0]]
        print(f"| {data} | {per_class} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
