"""Classes added later: what the old ones lose, and how well the new ones are learnt.

Each row starts from the same classifier of the first classes. "All images" is trained on all
classes at once, from the pretrained weights: what there is to reach. Without old images: plain
training on the new ones, Learning without Forgetting (Li and Hoiem 2016: the old model's answers
are kept on the new images), and ours, from class statistics. With some of the old images: ours.
Figures are test accuracies, over the old classes, the new ones, and all. Run it with:

    python benchmarks/class_more.py
    python benchmarks/class_more.py --data cifar10/ --image-size 64 --new 2 --new 5

Without --data the images are scikit-learn's digits.
"""

import argparse
import copy
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from acclimate.augmentation.policy import Policy, choose_policy
from acclimate.augmentation.settings import Augment
from acclimate.cleaning.clean import clean
from acclimate.context import Context
from acclimate.data.dataset import Dataset, balanced_sample
from acclimate.data.images.batches import ordered_batches
from acclimate.data.sample_data import write_digits
from acclimate.data.sources.read import read
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.classifier import Classifier
from acclimate.models.pretrained import pretrained
from acclimate.models.runtime import run_torch
from acclimate.models.settings import Model
from acclimate.models.structure import head, with_head
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.engine.loop import train
from acclimate.training.engine.step import LossInputs
from acclimate.training.plan import make_plan

_TEMPERATURE = 2.0


def of_classes(dataset: Dataset, first: int, end: int, few: int | None = None) -> Dataset:
    """Some of the classes alone; with `few`, also so many training images of each class before."""
    names = dataset.classes[0 if few else first : end]
    keep = dataset.keep & (dataset.labels >= first) & (dataset.labels < end)
    if few:
        rows = dataset.rows("train")
        rows = rows[dataset.labels[rows] < first]
        keep[balanced_sample(dataset, rows, few * first, np.random.default_rng(0))] = True
    return replace(dataset.with_columns({"keep": keep}), classes=names)


def without_old(old: Classifier, new: Dataset, policy: Policy, kept: float, context: Context):
    """All layers on the new images; `kept` is the weight of the old model's answers."""
    before, classes = head(old.module()), (*old.classes, *new.classes)
    layer = nn.Linear(before.in_features, len(classes))
    with torch.no_grad():
        layer.weight.zero_()[: len(old.classes)] = before.weight
        layer.bias.zero_()[: len(old.classes)] = before.bias
    network, teacher = with_head(old.module(), layer), copy.deepcopy(old.module()).eval()

    def objective(logits: torch.Tensor, loss_inputs: LossInputs) -> torch.Tensor:
        loss = functional.cross_entropy(logits, loss_inputs.targets, reduction="none")
        if kept:
            with torch.no_grad():
                told = (teacher(loss_inputs.inputs) / _TEMPERATURE).softmax(1)
            ours = (logits[:, : len(old.classes)] / _TEMPERATURE).log_softmax(1)
            loss = loss - kept * _TEMPERATURE**2 * (told * ours).sum(1)
        return loss

    dataset = replace(new, classes=classes)
    plan = make_plan(FineTune(), len(dataset.rows("train")), context)
    views = TrainingImages(dataset, policy, old.contract, context)
    trained = train(network, views, objective, plan, context=context, keep_start=False)
    return replace(old, network=trained.network, classes=classes, graph=None)


def rows(
    old: Classifier, whole: Dataset, new: Dataset, policy: Policy, context: Context
) -> Iterator[tuple[str, Classifier]]:
    first, keep = len(old.classes), FineTune(keep_classes=True)
    yield "before", old
    yield "plain training, new images", without_old(old, new, policy, 0.0, context)
    yield "Learning without Forgetting", without_old(old, new, policy, 1.0, context)
    yield "ours, new images", fine_tune(old, new, policy, keep, context=context)
    for few in (5, 20):
        some = of_classes(whole, first, len(whole.classes), few)
        yield f"ours, {few} old images a class", fine_tune(old, some, policy, keep, context=context)
    yield "ours, all old images", fine_tune(old, whole, policy, keep, context=context)
    start = pretrained(Model(image_size=old.contract.image_size))
    yield "all images", fine_tune(start, whole, policy, FineTune(), context=context)


def accuracies(model: Classifier, whole: Dataset, first: int, context: Context) -> str:
    """Over old classes, new ones and all, as a table's cells."""
    judged = whole.rows("test")
    run = run_torch(model, context.device)
    said = np.concatenate([run(b.images) for b in ordered_batches(whole, judged, model.contract)])
    named = np.array([whole.classes.index(name) for name in model.classes])[said.argmax(1)]
    right, is_old = named == whole.labels[judged], whole.labels[judged] < first
    cells = [right[is_old].mean(), right[~is_old].mean(), right.mean()]
    if len(model.classes) == first:
        return f"{cells[0]:.3f} | | "
    return " | ".join(f"{cell:.3f}" for cell in cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--new", type=int, action="append", default=[])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if args.data is None:
            write_digits(Path(name) / "digits")
        context = Context(seed=args.seed, device="cpu", cache=Path(name) / "cache")
        whole = clean(read(args.data or Path(name) / "digits"), context=context)
        policy = choose_policy(Augment(horizontal_flip=args.data is not None))
        start = pretrained(Model(image_size=args.image_size))
        for new in args.new or [2]:
            first = len(whole.classes) - new
            old = fine_tune(start, of_classes(whole, 0, first), policy, context=context)
            print(f"\n| {first} classes and {new} more | old | new | all |")
            print("| --- | --- | --- | --- |")
            added = of_classes(whole, first, len(whole.classes))
            for title, model in rows(old, whole, added, policy, context):
                print(f"| {title} | {accuracies(model, whole, first, context)} |", flush=True)


if __name__ == "__main__":
    main()
