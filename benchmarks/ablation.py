"""What each default of fine-tuning is worth: the defaults, and the defaults without one of them.

Each row changes one thing and trains from the same fitted head on the same images with the same
seed; what is written down is its test accuracy minus that of the defaults, paired by data set and
seed. Run it with:

    python benchmarks/ablation.py --data cifar10/ --data flowers5/ --seeds 2 --out runs/

Each run is kept in `--out` as it ends; the same command goes on where it was. Without
--data the images are scikit-learn's digits.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acclimate.augmentation.auto_policy import auto_policy
from acclimate.augmentation.policy import Policy, choose_policy
from acclimate.augmentation.settings import Augment
from acclimate.cleaning.clean import clean
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.data.sample_data import write_digits
from acclimate.data.sources.read import read
from acclimate.features.probe import probe
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.classifier import Classifier, StepRecord
from acclimate.models.pretrained import pretrained
from acclimate.models.settings import Model
from distillation import accuracy
from shift import fresh
from training_runs import Record, Results
from what_is_trained import fewer

WITHOUT: dict[str, dict[str, object]] = {
    "defaults": {},
    "layer decay": {"layer_decay": 1.0},
    "frozen batch norm": {"batch_norm": "train"},
    "label smoothing": {"label_smoothing": 0.0},
    "weight decay": {"weight_decay": 0.0},
    "warm-up": {"warmup": 0.0},
    "cosine (constant)": {"schedule": "constant"},
    "clipped gradients": {"max_gradient_norm": 1e6},
    "AdamW (SGD)": {"optimizer": "sgd"},
    "all layers (head alone)": {"trainable": "head"},
    "the fitted head": {},
    "asked augmentation (none)": {},
    "asked augmentation (basic)": {},
}
WITH: dict[str, dict[str, object]] = {
    "EMA": {"averaging": "ema"},
    "soup": {"averaging": "soup"},
    "WiSE-FT": {"wise_ft": "auto"},
    "SAM": {"sam": "sam"},
    "Muon": {"optimizer": "muon"},
    "schedule-free": {"optimizer": "schedule_free"},
    "dropout 0.2": {"dropout": 0.2},
    "drop path 0.1": {"drop_path": 0.1},
    "balanced sampling": {"balance": "sampling"},
    "logit adjustment": {"balance": "logit_adjustment"},
    "MixUp 0.2": {},
}
POLICIES = {
    "asked augmentation (none)": Augment(policy="none"),
    "asked augmentation (basic)": Augment(policy="basic"),
}


@dataclass(frozen=True)
class Case:
    """One data set at one seed, ready to train."""

    dataset: Dataset
    start: Classifier
    policies: Callable[[str], Policy]
    context: Context


def made_ready(folder: Path, seed: int, args: argparse.Namespace, cache: Path) -> Case:
    context = Context(seed=seed, device="cpu", cache=cache)
    dataset = clean(read(folder), context=context)
    dataset = fewer(dataset, args.images, seed, test=2 * args.images)
    start = probe(pretrained(Model(image_size=args.image_size)), dataset, context=context)
    asked = auto_policy(start, dataset, context=context)
    mixed = auto_policy(start, dataset, Augment(mixup=0.2), context=context)

    def policies(row: str) -> Policy:
        if row == "MixUp 0.2":
            return mixed
        return choose_policy(POLICIES[row]) if row in POLICIES else asked

    return Case(dataset, start, policies, context)


def without_head(start: Classifier) -> Classifier:
    """The same network with a head that knows nothing, as a plain first attempt has it."""
    network = fresh(start, start.classes, 0)
    return start.after(StepRecord("probe", {}, {}, ()), network=network)


def measured(row: str, case: Case, args: argparse.Namespace) -> tuple[float, float]:
    """Test accuracy and seconds of one training."""
    start = without_head(case.start) if row == "the fitted head" else case.start
    settings = FineTune.model_validate({"epochs": args.epochs, **(WITHOUT | WITH)[row]})
    began = time.perf_counter()
    tuned = fine_tune(start, case.dataset, case.policies(row), settings, context=case.context)
    return accuracy(tuned, case.dataset), time.perf_counter() - began


def run_missing(folders: dict[str, Path], args: argparse.Namespace) -> list[Record]:
    """Every (data, seed, row); those that have ended are not run again."""
    results = Results(args.out)
    for seed in range(args.seeds):
        for name, folder in folders.items():
            about = {"data": name, "seed": seed}
            rows = [row for row in args.rows if not results.find(**about, row=row)]
            if not rows:
                continue
            with tempfile.TemporaryDirectory() as cache:
                case = made_ready(folder, seed, args, Path(cache))
                probed = accuracy(case.start, case.dataset)
                for row in rows:
                    found, seconds = measured(row, case, args)
                    print(f"{name} {seed} {row}: {found:.4f} in {seconds:.0f} s", flush=True)
                    ended = {"row": row, "probe": probed, "test": found, "seconds": seconds}
                    results.add({**about, **ended})
    return results.runs


def print_table(results: list[Record], rows: list[str]) -> None:
    """Points lost (or gained) against the defaults, paired; mean and its standard error."""
    by = {(r["data"], r["seed"], r["row"]): r for r in results}
    names = list(dict.fromkeys(r["data"] for r in results))
    print(f"\n| | {' | '.join(map(str, names))} | mean | standard error | seconds |")
    print(f"| --- |{' --- |' * (len(names) + 3)}")
    for row in ["defaults", *(r for r in rows if r != "defaults")]:
        gains: dict[object, list[float]] = {name: [] for name in names}
        times = []
        for (name, seed, which), result in by.items():
            base = by.get((name, seed, "defaults"))
            if which == row and base is not None:
                gains[name].append(100 * (result["test"] - (row != "defaults") * base["test"]))
                times.append(result["seconds"] / base["seconds"])
        everything = [gain for some in gains.values() for gain in some]
        if not everything:
            continue
        sign = "" if row == "defaults" else "+"
        cells = [f"{np.mean(some):{sign}.1f}" if some else "" for some in gains.values()]
        many = len(everything) > 1 and row != "defaults"
        error = f"{np.std(everything, ddof=1) / len(everything) ** 0.5:.1f}" if many else ""
        label = row if row in ("defaults", *WITH) else f"without {row}"
        mean = f"{np.mean(everything):{sign}.1f}"
        print(f"| {label} | {' | '.join(cells)} | {mean} | {error} | {np.mean(times):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--image-size", type=int, default=80)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rows", nargs="+", choices=[*WITHOUT, *WITH], default=list(WITHOUT))
    parser.add_argument("--out", type=Path, required=True, help="Where ended runs are kept.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as here:
        folders = {path.name: path for path in args.data}
        if not folders:
            folders = {"digits": Path(here) / "digits"}
            write_digits(folders["digits"])
        print_table(run_missing(folders, args), args.rows)


if __name__ == "__main__":
    main()
