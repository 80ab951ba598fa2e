"""Whether the learning rate that the range test suggests is a good one.

    python benchmarks/find_rate.py --data flowers5/ trashnet/ pacs/photo/ cifar10/train/ usps/

Of each folder of classes, a few hundred images: the suggestion of `acclimate find-rate`, and the
accuracy on val after three epochs at six rates, a factor of about 3 apart. The best rate is the one
with the highest accuracy in the last epoch, of equal ones that with the lowest loss. Rates that val
cannot tell from it (one standard error) stand beside it.
"""

import argparse
import math
import random
import shutil
import tempfile
from pathlib import Path

from acclimate.augmentation.policy import choose_policy
from acclimate.cleaning.clean import clean
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.data.settings import Source
from acclimate.data.sources.read import read
from acclimate.errors import RecipeError
from acclimate.fine_tuning.find_learning_rate import find_rate
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.pretrained import pretrained
from acclimate.models.settings import Model
from acclimate.training.plan import make_plan

RATES = (5e-5, 1.6e-4, 5e-4, 1.6e-3, 5e-3, 1.6e-2)


def few(folder: Path, images: int, seed: int, place: Path) -> Path:
    """Equally many images of each class, as a folder."""
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    for each in classes:
        files = sorted(each.iterdir())
        random.Random(seed).shuffle(files)
        (place / each.name).mkdir(parents=True)
        for file in files[: images // len(classes)]:
            shutil.copy(file, place / each.name)
    return place


def trained(
    dataset: Dataset, settings: FineTune, size: int, context: Context
) -> tuple[float, float]:
    """Val accuracy and negative val loss of the last epoch; low if the training diverges."""
    found: list[tuple[float, float]] = []
    model = pretrained(Model(image_size=size))
    try:
        fine_tune(
            model, dataset, choose_policy(), settings, context=context,
            epoch_callback=lambda e: found.append((e.val_accuracy, -e.val_loss)) is None,
        )  # fmt: skip
    except RecipeError:
        return 0.0, -math.inf
    return found[-1]


def row(folder: Path, args: argparse.Namespace) -> str:
    """One line of the table."""
    context = Context(seed=args.seed, device="cpu")
    with tempfile.TemporaryDirectory() as place:
        here = few(folder, args.images, args.seed, Path(place) / "images")
        split = Clean(checks=("unreadable",), val=0.4, test=0.05)
        dataset = clean(read(here, Source()), split, context=context)
        model = pretrained(Model(image_size=args.size))
        found = find_rate(model, dataset, choose_policy(), FineTune(epochs=3), context=context)
        auto = make_plan(FineTune(), len(dataset.rows("train")), context).learning_rate
        told = {
            rate: trained(dataset, FineTune(epochs=3, learning_rate=rate), args.size, context)
            for rate in RATES
        }
    best = max(told, key=lambda rate: told[rate])
    images = len(dataset.rows("val"))
    highest = told[best][0]
    error = math.sqrt(highest * (1 - highest) / images)
    like = [f"{rate:g}" for rate in RATES if told[rate][0] >= highest - error and rate != best]
    said = "cannot tell" if found.suggestion is None else f"{found.suggestion:.2g}"
    factor = "" if found.suggestion is None else f"{found.suggestion / best:.2f}"
    figures = " ".join(f"{told[rate][0]:.3f}" for rate in RATES)
    return (
        f"| {folder} | {said} | {auto:.2g} | {best:g} | {factor} | {' '.join(like)} | {figures} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rates = " ".join(f"{rate:g}" for rate in RATES)
    print(f"| images | find-rate | auto | best of six | factor | not told from it | at {rates} |")
    print("| --- " * 7 + "|")
    for folder in args.data:
        print(row(folder, args), flush=True)


if __name__ == "__main__":
    main()
