"""Fine-tuning runs to compare: ours, the plain loop, the probe, fastai's and timm's.

All have the same weights, images, input size and number of epochs, which is the one that our
`fine_tune` chooses unless it is given. Test images are judged after some of the epochs, the time
for it left out. Each run is a line of a JSONL file, so what was killed goes on where it was.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
from safetensors.torch import save_file
from torch import nn

from acclimate.augmentation.auto_policy import auto_policy
from acclimate.cleaning.clean import clean
from acclimate.context import Context
from acclimate.data.dataset import Dataset, balanced_sample
from acclimate.data.sample_data import write_digits
from acclimate.data.sources.read import read
from acclimate.features.probe import probe
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.classifier import Classifier
from acclimate.models.pretrained import pretrained
from acclimate.models.settings import Model
from acclimate.progress import SilentProgress
from acclimate.training import fine_tune as stage
from acclimate.training.plan import make_plan
from shift import accuracy, fresh, plainly

PEERS = ("fastai", "fastai-advice", "timm", "timm-advice")
METHODS = ("acclimate", "plain", *PEERS)
Record = dict[str, object]


@dataclass(frozen=True)
class Task:
    """What a method is given."""

    model: Classifier
    dataset: Dataset
    epochs: int
    seed: int
    curve: bool = True

    @property
    def judged(self) -> set[int]:
        """The first four epochs, then each fifth of the training: judging takes time too.

        Epoch 0 is fastai's alone, which first learns with a frozen body.
        """
        if not self.curve:
            return {self.epochs}
        return {0, 1, 2, 3, 4, *range(0, self.epochs, max(1, self.epochs // 5)), self.epochs}

    def accuracy(self, network: nn.Module) -> float:
        was_training = network.training
        found = accuracy(network, self.dataset, self.model, self.dataset.rows("test"))
        network.train(was_training)
        return found


@dataclass
class Curve:
    """Seconds and test accuracies, judging left out of the clock."""

    task: Task
    began: float = field(default_factory=time.perf_counter)
    judging: float = 0.0
    seconds: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)

    def judge(self, network: nn.Module) -> None:
        start = time.perf_counter()
        self.seconds.append(round(start - self.began - self.judging, 2))
        self.accuracies.append(self.task.accuracy(network))
        self.judging += time.perf_counter() - start
        print(f"    {self.seconds[-1]:7.1f} s  {self.accuracies[-1]:.4f}", flush=True)

    def as_record(self) -> Record:
        return {"seconds": self.seconds, "accuracies": self.accuracies}


class _Judge(SilentProgress):
    """Judges the network after each epoch, when the loop says that one has ended."""

    def __init__(self, curve: Curve, network: nn.Module):
        self.curve, self.network, self.epoch = curve, network, 0

    def info(self, text: str) -> None:
        if text.startswith("epoch"):
            self.epoch += 1
            if self.epoch in self.curve.task.judged:
                self.curve.judge(self.network)


def acclimate(task: Task, cache: Path) -> Record:
    """Head on frozen features, augmentation asked of the data, `fine_tune` with its defaults."""
    context = Context(seed=task.seed, device="cpu", cache=cache)
    curve, train = Curve(task), stage.train

    def watched(network: nn.Module, *args, context: Context, **kwargs):
        return train(
            network, *args, context=replace(context, progress=_Judge(curve, network)), **kwargs
        )

    start = probe(task.model, task.dataset, context=context)
    curve.judge(start.module())
    policy = auto_policy(start, task.dataset, context=context)
    with patch.object(stage, "train", watched):  # the stage tells of epochs, not of its network
        tuned = stage.fine_tune(start, task.dataset, policy, FineTune(), context=context)
    curve.judge(tuned.module())
    return curve.as_record()


def fitted(task: Task, cache: Path) -> Record:
    """The head on frozen features alone."""
    curve = Curve(task)
    start = probe(task.model, task.dataset, context=Context(task.seed, "cpu", cache=cache))
    curve.judge(start.module())
    return curve.as_record()


def plain(task: Task, _cache: Path) -> Record:
    """A first attempt: Adam at 1e-3, all layers, no augmentation, batch 32, a new head."""
    curve, (model, dataset) = Curve(task), (task.model, task.dataset)
    network = fresh(model, dataset.classes, task.seed)

    def ended(epoch: int) -> None:
        if epoch in task.judged:
            curve.judge(network)

    plainly(
        network, model, dataset, 1e-3, task.epochs, task.seed, frozen_norms=False, ended=ended
    )  # fmt: skip
    return curve.as_record()


def peer(method: str, task: Task, python: str, scratch: Path) -> Record:
    """One run of `training_peers.py` by the peers' interpreter."""
    dataset, listing, weights = task.dataset, scratch / "images.json", scratch / "net.safetensors"
    shown = {
        split: [(str(dataset.path(r).absolute()), int(dataset.labels[r])) for r in rows]
        for split, rows in ((s, dataset.rows(s)) for s in ("train", "test"))
    }
    known = {"classes": list(dataset.classes), "judged": sorted(task.judged), **shown}
    listing.write_text(json.dumps(known))
    state = {name: v.contiguous() for name, v in task.model.module().state_dict().items()}
    save_file(state, weights)
    command = [
        python, str(Path(__file__).with_name("training_peers.py")), method,
        "--listing", str(listing), "--weights", str(weights), "--epochs", str(task.epochs),
        "--size", str(task.model.contract.image_size), "--seed", str(task.seed),
    ]  # fmt: skip
    hidden = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=hidden)
    if done.returncode:
        raise RuntimeError(f"{method}: {' '.join(done.stderr.strip().splitlines()[-1:])}")
    points = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for point in points:
        print(f"    {point['seconds']:7.1f} s  {point['accuracy']:.4f}", flush=True)
    return {
        "seconds": [point["seconds"] for point in points],
        "accuracies": [point["accuracy"] for point in points],
    }


OURS = {"acclimate": acclimate, "plain": plain, "probe": fitted}


def some(dataset: Dataset, train: int, test: int, seed: int) -> Dataset:
    """So many images that train, balanced; a fifth as many of val, at least two a class."""
    rng, keep = np.random.default_rng(seed), dataset.keep.copy()
    val = max(2 * len(dataset.classes), train // 5)
    for split, number in (("train", train), ("val", val), ("test", test)):
        rows = dataset.rows(split)
        keep[np.setdiff1d(rows, balanced_sample(dataset, rows, number, rng))] = False
    return dataset.with_columns({"keep": keep})


class Results:
    """The runs that have ended, a JSON line each."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.runs = folder / "runs.jsonl", []
        text = self.path.read_text() if self.path.exists() else ""
        for line in text.splitlines():
            try:
                self.runs.append(json.loads(line))
            except json.JSONDecodeError:  # the process was killed while it wrote
                continue
        if text and not text.endswith("\n"):
            self._write("\n")

    def _write(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)

    def find(self, **wanted: object) -> list[Record]:
        return [r for r in self.runs if all(r.get(k) == v for k, v in wanted.items())]

    def add(self, record: Record) -> None:
        self.runs.append(record)
        self._write(json.dumps(record) + "\n")


def add_arguments(
    parser: argparse.ArgumentParser, methods: tuple[str, ...], *, curve: bool
) -> None:
    parser.set_defaults(curve=curve)
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=methods, default=list(methods))
    parser.add_argument("--peers", help="A Python that has fastai and timm; without it no peers.")
    parser.add_argument("--size", type=int, default=96, help="Px.")
    parser.add_argument("--test", type=int, default=500, help="Test images, at most.")
    parser.add_argument("--epochs", type=int, help="Of all but ours; else as many as ours.")
    parser.add_argument("--show", action="store_true", help="Run nothing: tell what has ended.")
    parser.add_argument("--out", type=Path, required=True, help="Where ended runs are kept.")


def folders(args: argparse.Namespace, scratch: Path) -> dict[str, Path]:
    """The sets by name; scikit-learn's digits where none is given."""
    if not args.data:
        write_digits(scratch / "digits")
        return {"digits": scratch / "digits"}
    return {path.name: path for path in args.data}


def measure(args: argparse.Namespace, sizes_of, results: Results) -> Iterator[Record]:
    """Runs what has not ended yet, a whole seed before the next; yields what each run is.

    `sizes_of` tells, of a set's name and number of classes, how many images train: a task each.
    """
    methods = [m for m in args.methods if m not in PEERS or args.peers]
    with tempfile.TemporaryDirectory() as name:
        sets = {
            data: clean(read(folder), context=Context(seed=0))
            for data, folder in folders(args, Path(name)).items()
        }
        model = pretrained(Model(image_size=args.size))
        for seed in range(args.seeds):
            for data, whole in sets.items():
                for images in sizes_of(data, len(whole.classes)):
                    for method in methods:
                        about = {
                            "data": data, "images": images, "size": args.size, "test": args.test,
                            "epochs": args.epochs, "method": method, "seed": seed,
                        }  # fmt: skip
                        if not args.show and not results.find(**about):
                            one = some(whole, images, args.test, seed)
                            run(about, one, model, args, results)
                        yield about


def run(
    about: Record, dataset: Dataset, model: Classifier, args: argparse.Namespace, results: Results
) -> None:
    counts = {split: len(dataset.rows(split)) for split in ("train", "val", "test")}
    method, seed = str(about["method"]), int(about["seed"])
    epochs = make_plan(FineTune(), counts["train"], Context(seed=seed)).epochs
    if method != "acclimate":
        epochs = args.epochs or epochs
    task = Task(model, dataset, epochs, seed, curve=args.curve)
    print(f"{about['data']}, {counts}, seed {seed}, {epochs} epochs: {method}", flush=True)
    with tempfile.TemporaryDirectory() as name:  # nothing is known from before
        try:
            found = (
                peer(method, task, args.peers, Path(name))
                if method in PEERS
                else OURS[method](task, Path(name))
            )
        except RuntimeError as error:
            print(f"{error}", file=sys.stderr)
            return
    results.add({**about, "counts": counts, **found})


def finals(runs: list[Record]) -> list[float]:
    """The test accuracy in the end, of each run."""
    return [run["accuracies"][-1] for run in runs]


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    if not values:
        return ""
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.3f}"
