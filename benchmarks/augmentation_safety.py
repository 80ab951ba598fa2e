"""Compares the policy that `auto` finds with the named ones, on digits and photos.

For each data set and each policy: the same start (a fitted head), the same fine-tuning, tested on
the test images and on a corrupted copy of them (blur, noise, low contrast, darkness, JPEG at
quality 10, a quarter of the resolution; one per image, chosen by its name). Run it with:

    python benchmarks/augmentation_safety.py
    python benchmarks/augmentation_safety.py --data photos/ --image-size 64 --epochs 6 --seeds 2

Without --data the images are scikit-learn's digits; with it, both.
"""

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from acclimate.augmentation.auto_policy import auto_policy
from acclimate.augmentation.settings import Augment
from acclimate.cleaning.clean import clean
from acclimate.cleaning.settings import Clean
from acclimate.context import Context, derive_seed
from acclimate.data.dataset import HOME, Dataset, balanced
from acclimate.data.images.decode import read_image
from acclimate.data.sample_data import write_digits
from acclimate.data.settings import Source
from acclimate.data.sources.read import read
from acclimate.evaluation.evaluate import evaluate
from acclimate.evaluation.settings import Evaluate
from acclimate.features.probe import probe
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.classifier import Classifier
from acclimate.models.pretrained import pretrained
from acclimate.models.settings import Model

POLICIES: dict[str, dict[str, object]] = {
    "none": {"policy": "none"},
    "basic": {"policy": "basic"},
    "randaugment": {"policy": "randaugment"},
    "trivialaugment": {"policy": "trivialaugment"},
    "augmix": {"policy": "augmix"},
    "auto": {},
    "auto, mixup 0.2": {"mixup": 0.2},
    "auto, cutmix 1": {"cutmix": 1.0},
}
TEST_SIDE = 256
Corruption = Callable[[Image.Image, np.random.Generator], Image.Image]


def _noise(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    grain = rng.normal(0, 30, (image.height, image.width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


def _jpeg(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=10)
    return Image.open(buffer).convert("RGB")


def _quarter(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    small = image.resize((max(1, image.width // 4), max(1, image.height // 4)))
    return small.resize(image.size)


CORRUPTIONS: tuple[Corruption, ...] = (
    lambda image, rng: image.filter(ImageFilter.GaussianBlur(min(image.size) / 40)),
    _noise,
    lambda image, rng: ImageEnhance.Contrast(image).enhance(0.35),
    lambda image, rng: ImageEnhance.Brightness(image).enhance(0.4),
    _jpeg,
    _quarter,
)


def write_corrupted(dataset: Dataset, folder: Path) -> None:
    """Writes the test images as `<class>/<number>.png`, each with one corruption."""
    for row in dataset.rows("test"):
        place = folder / dataset.classes[dataset.labels[row]]
        place.mkdir(parents=True, exist_ok=True)
        image = read_image(dataset.path(int(row)), min_side=TEST_SIDE)
        image.thumbnail((TEST_SIDE, TEST_SIDE))
        rng = np.random.default_rng(derive_seed(0, dataset.paths[row]))
        corrupt = CORRUPTIONS[rng.integers(len(CORRUPTIONS))]
        corrupt(image, rng).save(place / f"{row}.png")


def load(folder: Path, scratch: Path, most: int, context: Context) -> Dataset:
    """The data set with a limited train split, and the corrupted copies as a domain."""
    first = clean(read(folder), Clean(val=0.15, test=0.3), context=context)
    write_corrupted(first, scratch)
    both = read(folder, Source(test_domains={"corrupted": scratch}))
    dataset = clean(both, Clean(val=0.15, test=0.3), context=context)
    train = dataset.rows("train")
    kept = balanced(dataset, train, most, np.random.default_rng(context.seed))
    keep = dataset.keep.copy()
    keep[np.setdiff1d(train, kept)] = False
    return dataset.with_columns({"keep": keep})


def measure(
    start: Classifier, dataset: Dataset, policy: str, args: argparse.Namespace, context: Context
) -> dict[str, object]:
    began = time.perf_counter()
    settings = Augment.model_validate(POLICIES[policy])
    chosen = auto_policy(start, dataset, settings, context=context)
    seconds = time.perf_counter() - began
    tuned = fine_tune(start, dataset, chosen, FineTune(epochs=args.epochs), context=context)
    figures = {}
    for tta in (False, True) if policy == "auto" else (False,):
        test_settings = Evaluate(latency=False, bootstrap=100, tta=tta)
        found = evaluate(tuned, dataset, test_settings, context=context)
        for domain in (HOME, "corrupted"):
            figures[domain + (", tta" if tta else "")] = found.metrics[domain]["accuracy"].value
    facts = {"policy": policy, "seconds": round(seconds, 1), **figures}
    if policy == "auto":
        facts |= {"flip": chosen.horizontal_flip, "crop": chosen.crop_area}
        facts["operations"] = dict(chosen.strengths)
    print(json.dumps(facts), flush=True)
    return facts


def mean_and_spread(figures: list[float]) -> str:
    """Mean over the seeds, and their standard deviation."""
    spread = f" ± {np.std(figures, ddof=1):.3f}" if len(figures) > 1 else ""
    return f"{np.mean(figures):.3f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--images", type=int, default=600, help="That train, at most.")
    parser.add_argument("--no-digits", action="store_true")
    parser.add_argument("--policy", action="append", choices=POLICIES, default=[])
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        digits = Path(name) / "digits"
        if not args.no_digits:
            write_digits(digits)
        for folder in (*([] if args.no_digits else [digits]), *args.data):
            for seed in range(args.seeds):
                context = Context(seed=seed, device="cpu", cache=Path(name) / "cache")
                scratch = Path(name) / "corrupted" / folder.name / str(seed)
                dataset = load(folder, scratch, args.images, context)
                model = pretrained(Model(image_size=args.image_size))
                start = probe(model, dataset, context=context)
                for policy in args.policy or POLICIES:
                    found = measure(start, dataset, policy, args, context)
                    rows.append({"data": folder.name, "seed": seed, **found})
    columns = (HOME, "corrupted", f"{HOME}, tta", "corrupted, tta")
    print("\n| data | policy | test | corrupted | test, tta | corrupted, tta |")
    print("| --- | --- | --- | --- | --- | --- |")
    for data in dict.fromkeys(row["data"] for row in rows):
        for policy in args.policy or POLICIES:
            some = [r for r in rows if r["data"] == data and r["policy"] == policy]
            cells = [mean_and_spread([r[c] for r in some]) if c in some[0] else "" for c in columns]
            print(f"| {data} | {policy} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
