"""Accuracy against seconds: our fine-tuning and the plain loop, same weights, images and cores.

The plain loop is what a first attempt looks like: Adam at 1e-3, all layers, no augmentation, batch
32, a new head. It gets the same decoding, input size and channels-last layout as ours. Both are
judged on the test images after every epoch; the time of judging is not counted. Run it with:

    python benchmarks/time_to_accuracy.py
    python benchmarks/time_to_accuracy.py --data cifar10/ --data flowers/ --image-size 128

Without --data the images are scikit-learn's digits.
"""

import argparse
import copy
import json
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional

from acclimate.augmentation.safety import safe_policy
from acclimate.cleaning.clean import clean
from acclimate.context import Context
from acclimate.data.batches import batches, in_order
from acclimate.data.dataset import Dataset
from acclimate.data.samples import write_digits
from acclimate.data.sources import read
from acclimate.features.probe import probe
from acclimate.models.classifier import Classifier
from acclimate.models.device import on_device
from acclimate.models.pretrained import pretrained
from acclimate.models.runtime import Normalizer
from acclimate.models.settings import Model
from acclimate.models.structure import with_head
from acclimate.progress import SilentProgress
from acclimate.training.loop import train
from acclimate.training.losses import cross_entropy
from acclimate.training.plan import make_plan
from acclimate.training.settings import FineTune
from acclimate.training.views import Views

CPU = torch.device("cpu")


@dataclass
class Curve:
    """Seconds and test accuracies, judging left out of the clock."""

    began: float = field(default_factory=time.perf_counter)
    judging: float = 0.0
    seconds: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)

    def judge(self, network: nn.Module, dataset: Dataset, model: Classifier) -> None:
        start = time.perf_counter()
        self.seconds.append(start - self.began - self.judging)
        self.accuracies.append(accuracy(network, dataset, model))
        self.judging += time.perf_counter() - start
        print(f"    {self.seconds[-1]:7.1f} s  {self.accuracies[-1]:.4f}", flush=True)


def accuracy(network: nn.Module, dataset: Dataset, model: Classifier) -> float:
    was_training = network.training
    network.eval()
    to_input, right = Normalizer(model.contract, CPU), 0
    rows = dataset.rows("test")
    with torch.inference_mode():
        for batch in in_order(dataset, rows, model.contract):
            logits = network(to_input(torch.from_numpy(batch.images)))
            right += int((logits.argmax(1).numpy() == batch.targets).sum())
    network.train(was_training)
    return right / len(rows)


def plain_loop(model: Classifier, dataset: Dataset, epochs: int, seed: int) -> Curve:
    torch.manual_seed(seed)
    curve = Curve()
    layer = nn.Linear(1280, len(dataset.classes))
    network = on_device(with_head(model.module(), layer), CPU)
    rule = torch.optim.Adam(network.parameters(), lr=1e-3)
    to_input, rows = Normalizer(model.contract, CPU), dataset.rows("train")
    for epoch in range(epochs):
        network.train()
        order = np.random.default_rng([seed, epoch]).permutation(rows)
        groups = [order[i : i + 32] for i in range(0, len(order) - 1, 32)]
        for batch in batches(dataset, groups, lambda row: model.contract.read(dataset.path(row))):
            logits = network(to_input(torch.from_numpy(batch.images)))
            loss = functional.cross_entropy(logits, torch.from_numpy(batch.targets))
            rule.zero_grad()
            loss.backward()
            rule.step()
        curve.judge(network, dataset, model)
    return curve


class _Judge(SilentProgress):
    """Judges the network after each epoch, when the loop says that one has ended."""

    def __init__(self, curve: Curve, network: nn.Module, dataset: Dataset, model: Classifier):
        self.curve, self.network, self.dataset, self.model = curve, network, dataset, model

    def say(self, text: str) -> None:
        if text.startswith("epoch"):
            self.curve.judge(self.network, self.dataset, self.model)


def ours(model: Classifier, dataset: Dataset, seed: int) -> tuple[Curve, float]:
    """Our curve, and the test accuracy of the weights that val chose."""
    with tempfile.TemporaryDirectory() as cache:  # nothing is known from before
        curve = Curve()
        context = Context(seed=seed, device="cpu", cache=Path(cache))
        start = probe(model, dataset, context=context)
        curve.judge(start.module(), dataset, start)
        settings = FineTune()
        plan = make_plan(settings, len(dataset.rows("train")), context)
        network = copy.deepcopy(start.module())
        policy = safe_policy(start, dataset, context=context)
        watched = replace(context, progress=_Judge(curve, network, dataset, start))
        trained = train(
            network,
            Views(dataset, policy, start.contract),
            lambda logits, seen: cross_entropy(logits, seen.targets, settings.label_smoothing),
            plan,
            context=watched,
        )
        return curve, accuracy(trained.network, dataset, start)


def first_reached(curve: Curve, wanted: float) -> float | None:
    return next(
        (s for s, a in zip(curve.seconds, curve.accuracies, strict=True) if a >= wanted), None
    )


def measure(name: str, folder: Path, args: argparse.Namespace) -> dict[str, object]:
    print(f"{name}: reading")
    context = Context(seed=args.seed)
    dataset = clean(read(folder), context=context)
    model = pretrained(Model(image_size=args.image_size))
    sizes = {s: len(dataset.rows(s)) for s in ("train", "val", "test")}
    print(f"{name}: {sizes}, {args.image_size} px")
    print("  plain loop")
    plain = plain_loop(model, dataset, args.plain_epochs, args.seed)
    print("  acclimate")
    curve, final = ours(model, dataset, args.seed)
    best = max(plain.accuracies)
    when = plain.seconds[plain.accuracies.index(best)]
    reached = first_reached(curve, best)
    return {
        "data": name,
        "images": sizes,
        "plain": {"seconds": plain.seconds, "accuracies": plain.accuracies},
        "ours": {"seconds": curve.seconds, "accuracies": curve.accuracies, "final": final},
        "plain_best": best,
        "plain_best_s": when,
        "ours_reaches_it_s": reached,
        "times_faster": None if reached is None else when / reached,
    }


def plot(results: list[dict[str, object]], path: Path) -> None:
    figure = Figure(figsize=(4.2 * len(results), 3.2))
    for axes, found in zip(
        np.atleast_1d(figure.subplots(1, len(results), squeeze=False)[0]), results, strict=True
    ):
        for name, color in (("plain", "#d9822b"), ("ours", "#2563a8")):
            curve = found[name]
            label = "plain loop" if name == "plain" else "acclimate"
            axes.plot(curve["seconds"], curve["accuracies"], "o-", ms=3, color=color, label=label)
        axes.set_title(str(found["data"]), fontsize=10)
        axes.set_xlabel("seconds")
        axes.set_ylabel("test accuracy")
        axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "acclimate"}):
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--plain-epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, default=Path(__file__).with_suffix(".svg"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folders = {path.name: path for path in args.data}
        if not folders:
            folders = {"digits": Path(name) / "digits"}
            write_digits(folders["digits"])
        results = [measure(name, folder, args) for name, folder in folders.items()]
    plot(results, args.plot)
    print(json.dumps(results, indent=2))
    print("\n| data | plain best | at | ours reaches it at | times faster | ours in the end |")
    print("| --- | --- | --- | --- | --- | --- |")
    for r in results:
        when = "never" if r["ours_reaches_it_s"] is None else f"{r['ours_reaches_it_s']:.0f} s"
        times = "" if r["times_faster"] is None else f"{r['times_faster']:.1f}"
        print(
            f"| {r['data']} | {r['plain_best']:.3f} | {r['plain_best_s']:.0f} s | {when} | {times} "
            f"| {r['ours']['final']:.3f} at {r['ours']['seconds'][-1]:.0f} s |"
        )


if __name__ == "__main__":
    main()
