"""Precision and recall of label error detection, on labels swapped on purpose.

In each folder of `<class>/<image>` 5 % of the labels are swapped (`--rate`), to any other class or
to the one that it is most often confused with, then `inspect` checks. "Plain" is cleanlab's own
pruning by the noise rate, on the same predictions. Run:

    python benchmarks/label_quality.py --data photos/ --data others/
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from cleanlab.filter import find_label_issues
from sklearn.metrics import average_precision_score, precision_recall_curve

from acclimate.cleaning.clean import clean
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.data.sources.read import read
from acclimate.inspection.feature_view import FeatureView
from acclimate.inspection.inspect import inspect
from acclimate.inspection.label_errors import out_of_fold
from acclimate.inspection.settings import Inspect
from acclimate.models.classifier import Classifier
from acclimate.models.pretrained import pretrained
from acclimate.models.settings import Model

_SETTINGS = Inspect(checks=("label_errors",))
_HERE = Context()


@dataclass(frozen=True)
class Found:
    """How well planted errors were found."""

    precision: float
    recall: float
    average_precision: float
    precision_at_80: float
    suggested: float
    """Share of the flagged errors for which the true label was suggested."""
    flags: float
    plain_flags: float
    plain_precision: float
    plain_recall: float


def confusable(dataset: Dataset, classifier: Classifier, context: Context) -> np.ndarray:
    """(C,): the class that each class is most often confused with, by the probe on true labels."""
    settings = Inspect()
    view = FeatureView(classifier, dataset, context, settings)
    rows = dataset.rows()
    guesses = out_of_fold(view, rows)
    table = np.stack([guesses[dataset.labels[rows] == c].mean(0) for c in range(guesses.shape[1])])
    np.fill_diagonal(table, -1)
    return table.argmax(1)


def swap(
    dataset: Dataset, to: np.ndarray | None, rate: float, seed: int
) -> tuple[Dataset, np.ndarray]:
    """The data set with some labels swapped, and the swapped rows."""
    rng = np.random.default_rng(seed)
    home = dataset.rows()
    rows = rng.choice(home, round(rate * len(home)), replace=False)
    classes = len(dataset.classes)
    old = dataset.labels[rows]
    new = (old + rng.integers(1, classes, len(rows))) % classes if to is None else to[old]
    labels = dataset.table["label"].to_pylist()
    for row, label in zip(rows, new, strict=True):
        labels[row] = dataset.classes[label]
    return dataset.with_columns({"label": labels}), rows


def plain_flags(
    dataset: Dataset, model: Classifier, settings: Inspect, context: Context
) -> np.ndarray:
    """bool, one per row: plain confident learning on the same predictions."""
    home = dataset.rows()
    guesses = out_of_fold(FeatureView(model, dataset, context, settings), home)
    flags = find_label_issues(dataset.labels[home], guesses, n_jobs=1)
    return np.asarray(flags, bool)


def evaluate_flags(
    inspected: Dataset, truth: Dataset, rows: np.ndarray, plain: np.ndarray
) -> Found:
    """The figures of one inspection."""
    home = inspected.rows()
    score = np.asarray(inspected.table["label_error"].to_numpy(zero_copy_only=False), np.float64)[
        home
    ]
    suggested = inspected.table["suggested_label"].to_pylist()
    flagged = np.asarray([suggested[row] is not None for row in home])
    planted = np.isin(home, rows)
    precision, recall, _ = precision_recall_curve(planted, score)
    hits = home[flagged & planted]
    right = [suggested[row] == truth.classes[truth.labels[row]] for row in hits]
    return Found(
        float(planted[flagged].mean()) if flagged.any() else 0.0,
        float(flagged[planted].mean()),
        float(average_precision_score(planted, score)),
        float(precision[recall >= 0.8].max()),
        float(np.mean(right)) if right else 0.0,
        int(flagged.sum()),
        int(plain.sum()),
        float(planted[plain].mean()) if plain.any() else 0.0,
        float(plain[planted].mean()),
    )


KINDS = ("any class", "confusable")
LABEL_HEAD = (
    "| data | errors | precision | recall | AP | precision at 0.8 | right suggestion | flags "
    "| plain flags | plain precision | plain recall | s |",
    "| --- " * 12 + "|",
)


def label_rows(
    place: Path,
    model: Classifier,
    *,
    seeds: int,
    rate: float = 0.05,
    kinds: Sequence[str] = KINDS,
    settings: Inspect = _SETTINGS,
    context: Context = _HERE,
) -> Iterator[str]:
    """One line per kind of error, with means over the seeds."""
    clean_data = clean(read(place), Clean(val=0.0, test=0.0), context=context)
    for kind in kinds:
        to = confusable(clean_data, model, context) if kind == "confusable" else None
        found, seconds = [], []
        for seed in range(seeds):
            swapped, rows = swap(clean_data, to, rate, seed)
            began = time.monotonic()
            inspected = inspect(model, swapped, settings, context=context)
            seconds.append(time.monotonic() - began)
            plain = plain_flags(swapped, model, settings, context)
            found.append(evaluate_flags(inspected, clean_data, rows, plain))
        means = np.mean([astuple(figures) for figures in found], axis=0)
        cells = " | ".join(f"{value:.2f}" for value in means)
        yield f"| {place.name} | {kind} | {cells} | {np.median(seconds):.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--extra-model", action="append", default=[], help="one more network")
    parser.add_argument("--estimator", action="append", help="kernel, fine_tuning, or both")
    parser.add_argument("--epochs", type=int, help="of each training of fine_tuning")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--swapped-to", choices=KINDS, action="append", dest="kinds")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    settings = Inspect(
        checks=("label_errors",),
        extra_models=tuple(args.extra_model),
        estimators=tuple(args.estimator or ["kernel"]),
        epochs=args.epochs or "auto",
    )
    context = Context(cache=args.cache) if args.cache else Context()
    model = pretrained(Model(name=args.model, image_size=args.image_size))
    print("\n".join(LABEL_HEAD))
    for place in args.data:
        lines = label_rows(
            place,
            model,
            seeds=args.seeds,
            rate=args.rate,
            kinds=args.kinds or KINDS,
            settings=settings,
            context=context,
        )
        for line in lines:
            print(line, flush=True)


if __name__ == "__main__":
    main()
