"""What each choice of trained parts, and progressive resizing, is worth: accuracy and seconds.

Run one row, or several:

    python benchmarks/what_is_trained.py photos/ --size 96 --images 1000 --epochs 4 --rows all grow

Each row trains from the same fitted head on the same images, three choices of seed if asked; the
seconds are those of the epochs, val included, measured one row after another.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from acclimate.cleaning.clean import clean
from acclimate.context import Context
from acclimate.data.dataset import SPLITS, Dataset
from acclimate.data.sources.read import read
from acclimate.evaluation.evaluate import evaluate
from acclimate.evaluation.settings import Evaluate
from acclimate.features.probe import probe
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.pretrained import pretrained
from acclimate.models.settings import Model

ROWS = {
    "all": {},
    "head": {"trainable": "head"},
    "last": {"trainable": "last", "trainable_blocks": 5},
    "surgical": {"trainable": "surgical", "trainable_blocks": 5},
    "lora": {"trainable": "lora"},
    "lora-fast": {"trainable": "lora", "learning_rate": 2e-3},
    "reestimate": {"batch_norm": "reestimate"},
    "cosine": {"head": "cosine"},
    "mlp": {"head": "mlp"},
    "dropout": {"dropout": 0.2},
    "drop-path": {"drop_path": 0.1},
    "grow": {"start_size": 64},
}


def fewer(dataset: Dataset, images: int, seed: int, *, test: int | None = None) -> Dataset:
    """Keeps so many training images, and so many, or as many, at most to test on."""
    names = [SPLITS[i] for i in dataset.splits]
    rng = np.random.default_rng(seed)
    for split, most in (("train", images), ("test", images if test is None else test)):
        for row in rng.permutation(dataset.rows(split))[most:]:
            names[row] = "unlabelled"
    return dataset.with_columns({"split": names})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        for seed in range(given.seeds):
            context = Context(seed=seed, device="cpu", cache=Path(cache))
            dataset = fewer(clean(read(given.data), context=context), given.images, seed)
            model = pretrained(Model(image_size=given.size))
            start = probe(model, dataset, context=context)
            print(f"seed {seed}: {dataset.counts('train')}", flush=True)
            for row in given.rows:
                settings = FineTune(**{"epochs": given.epochs, **ROWS[row]})
                known = model if settings.head != "auto" else start
                began = time.monotonic()
                tuned = fine_tune(known, dataset, None, settings, context=context)
                whole = time.monotonic() - began
                step = tuned.card.steps[-1]
                asked = Evaluate(bootstrap=100, latency=False)
                found = evaluate(tuned, dataset, asked, context=context, name=row)
                accuracy = next(iter(found.metrics.values()))["accuracy"].value
                print(
                    f"{row:10s} test {accuracy:.3f} val {step.figures['val_accuracy']:.3f} "
                    f"(start {step.figures['start_val_accuracy']:.3f}) "
                    f"{step.figures['seconds']:.1f} s of epochs, {whole:.1f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
