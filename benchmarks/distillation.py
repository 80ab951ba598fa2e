"""Compares training a student alone with distillation, by each method, for the same steps.

The student is EfficientNet-Lite0 with ImageNet weights at a small input size, and a fitted head.
Alone it is fine-tuned on the true labels, with label smoothing as by default. With a teacher it
gets the same images, augmentations, batches, learning rate and number of steps. The teacher is
fine-tuned on the same training images at a larger size. All are evaluated on test. Run it with:

    python benchmarks/distillation.py
    python benchmarks/distillation.py --data cifar10/ --teacher cifar10.teacher --method dkd

Without --data the images are scikit-learn's digits. --teacher keeps the teacher between runs;
--still also measures how much caching the teacher's outputs saves without augmentation;
--hide 0.5 removes the labels of that fraction of the training images.
"""

import argparse
import copy
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from acclimate.augmentation.auto_policy import auto_policy
from acclimate.augmentation.policy import Policy, choose_policy
from acclimate.augmentation.settings import Augment
from acclimate.cleaning.clean import clean
from acclimate.context import Context
from acclimate.data.dataset import SPLITS, Dataset, balanced_sample
from acclimate.data.images.batches import ordered_batches
from acclimate.data.sample_data import write_digits
from acclimate.data.sources.read import read
from acclimate.distillation.distill import distill
from acclimate.distillation.methods import DISTILLATIONS
from acclimate.distillation.objective import distillation_objective
from acclimate.distillation.settings import Distill
from acclimate.distillation.teachers import CachedTeachers, Teachers
from acclimate.features.probe import probe
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.classifier import Classifier
from acclimate.models.pretrained import pretrained
from acclimate.models.runtime import run_torch
from acclimate.models.settings import Model
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.engine.loop import train
from acclimate.training.plan import make_plan


def accuracy(model: Classifier, dataset: Dataset) -> float:
    run, rows, right = run_torch(model, "cpu"), dataset.rows("test"), 0
    for batch in ordered_batches(dataset, rows, model.contract):
        right += int((run(batch.images).argmax(1) == batch.targets).sum())
    return right / len(rows)


def hidden(dataset: Dataset, part: float, seed: int) -> Dataset:
    """The data without the labels of a fraction of the training images."""
    rng = np.random.default_rng(seed)
    rows = dataset.rows("train")
    chosen = set(rng.choice(rows, round(part * len(rows)), replace=False).tolist())
    splits = [SPLITS[s] if s >= 0 else None for s in dataset.splits]
    labels = [dataset.classes[label] if label >= 0 else None for label in dataset.labels]
    for row in chosen:
        splits[row], labels[row] = "unlabelled", None
    return dataset.with_columns({"split": splits, "label": labels})


def teacher_of(dataset: Dataset, args: argparse.Namespace, context: Context) -> Classifier:
    if args.teacher is not None and args.teacher.exists():
        return Classifier.load(args.teacher)
    start = pretrained(Model(name=args.teacher_model, image_size=args.teacher_size))
    start = probe(start, dataset, context=context)
    policy = auto_policy(start, dataset, context=context)
    made = fine_tune(start, dataset, policy, FineTune(epochs=args.epochs), context=context)
    if args.teacher is not None:
        made.save(args.teacher)
    return made


def train_student(
    name: str,
    start: Classifier,
    teacher: Classifier,
    dataset: Dataset,
    policy: Policy,
    args: argparse.Namespace,
    context: Context,
) -> dict[str, object]:
    began = time.perf_counter()
    if name == "alone":
        model = fine_tune(start, dataset, policy, FineTune(epochs=args.epochs), context=context)
    else:
        unlabelled = name.endswith("+unlabelled")
        settings = Distill(
            method=name.removesuffix("+unlabelled"), epochs=args.epochs, unlabelled=unlabelled
        )
        model = distill(teacher, dataset, policy, settings, context=context, start=start)
    seconds = time.perf_counter() - began
    found = accuracy(model, dataset)
    print(f"{name}: {found:.4f} in {seconds:.0f} s", flush=True)
    return {"name": name, "accuracy": found, "seconds": seconds}


def still(
    start: Classifier,
    teacher: Classifier,
    dataset: Dataset,
    args: argparse.Namespace,
    context: Context,
) -> None:
    """The same training with teacher outputs computed at each step, and cached."""
    views = TrainingImages(dataset, choose_policy(Augment(policy="none")), start.contract)
    settings = Distill(epochs=args.epochs)
    plan = make_plan(settings, len(views.rows), context)
    frozen = Teachers([teacher], start.classes, start.contract, device="cpu")
    states = []
    for name, teachers in (
        ("not cached", frozen),
        ("cached", CachedTeachers(frozen, len(dataset))),
    ):
        began = time.perf_counter()
        network = copy.deepcopy(start.module())
        trained = train(
            network, views, distillation_objective(teachers, settings), plan, context=context
        )
        made = replace(start, network=trained.network)
        seconds = time.perf_counter() - began
        found = accuracy(made, dataset)
        print(f"without augmentation, teacher {name}: {found:.4f} in {seconds:.0f} s")
        states.append(trained.network.state_dict())
    gap = max(float((a.float() - b.float()).abs().max())
              for a, b in zip(states[0].values(), states[1].values(), strict=True))  # fmt: skip
    print(f"largest difference of a weight: {gap:.2g}")


def fewer(dataset: Dataset, images: int | None, seed: int) -> Dataset:
    """The data with fewer training images, balanced between classes."""
    rows = dataset.rows("train")
    rng, keep = np.random.default_rng(seed), dataset.keep.copy()
    keep[np.setdiff1d(rows, balanced_sample(dataset, rows, images or len(rows), rng))] = False
    return dataset.with_columns({"keep": keep})


def compared(
    dataset: Dataset, args: argparse.Namespace, context: Context
) -> list[dict[str, object]]:
    """Accuracy of the teacher, the untrained student, and each method, for one seed."""
    torch.manual_seed(context.seed)
    print({s: len(dataset.rows(s)) for s in ("train", "val", "test")}, flush=True)
    teacher = teacher_of(dataset, args, context)
    if args.hide:
        dataset = hidden(dataset, args.hide, context.seed)
    small = pretrained(Model(name="efficientnet-lite0", image_size=args.image_size))
    start = probe(small, dataset, context=context)
    known = {"teacher": accuracy(teacher, dataset), "student before": accuracy(start, dataset)}
    print(known, flush=True)
    policy = auto_policy(start, dataset, context=context)
    if args.still:
        still(start, teacher, dataset, args, context)
    return [
        *({"name": name, "accuracy": found, "seconds": 0.0} for name, found in known.items()),
        *(
            train_student(name, start, teacher, dataset, policy, args, context)
            for name in args.method or ["alone", *DISTILLATIONS]
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--teacher-model", default="efficientnet-lite0")
    parser.add_argument("--teacher-size", type=int, default=128)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--method", action="append", default=[])
    parser.add_argument("--hide", type=float, default=0.0)
    parser.add_argument("--still", action="store_true")
    parser.add_argument("--images", type=int, help="Largest number of training images.")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        if args.data is None:
            write_digits(here / "digits")
        for seed in range(args.seeds):
            context = Context(seed=seed, device="cpu", cache=here / "cache")
            dataset = clean(read(args.data or here / "digits"), context=context)
            results += compared(fewer(dataset, args.images, seed), args, context)
    print(json.dumps(results, indent=2))
    print("\n| | test accuracy, mean | standard deviation | seconds |\n| --- | --- | --- | --- |")
    for name in dict.fromkeys(r["name"] for r in results):
        found, seconds = (
            np.array([r[key] for r in results if r["name"] == name])
            for key in ("accuracy", "seconds")
        )
        deviation = f"{found.std(ddof=1):.3f}" if len(found) > 1 else ""
        print(f"| {name} | {found.mean():.3f} | {deviation} | {seconds.mean():.0f} |")


if __name__ == "__main__":
    main()
