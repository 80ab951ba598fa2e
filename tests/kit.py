"""Builders and one progress recorder that many tests share."""

import functools
import shutil
import signal
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import timm
import torch
from filelock import FileLock
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import fast_export
from acclimate.context import derive_seed
from acclimate.data.images.contract import InputContract
from acclimate.evaluation import latency
from acclimate.features import extract
from acclimate.models.classifier import Classifier
from acclimate.models.onnx.export import EXPORTERS
from acclimate.models.pretrained import wrap
from acclimate.progress import SilentProgress
from acclimate.training.batches import frozen_prefix
from acclimate.training.batches.train_batches import TrainBatch, ValBatch, cut

CONTRACT = InputContract(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", 1.0)


def made_once(place: Path, make: Callable[[Path], object]) -> Path:
    """The folder as `make(place)` fills it: once per test run, by the worker that needs it first.

    It is made under its final name, since results may hold absolute paths.
    """
    whole = place.with_name(f"{place.name}.whole")
    with FileLock(f"{place}.lock"):
        if not whole.exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            make(place)
            whole.touch()
    return place


def classifier_once(place: Path, make: Callable[[], Classifier]) -> Classifier:
    """The classifier that `make()` returns, trained once per test run."""
    return Classifier.load(made_once(place, lambda folder: make().save(folder / "model")) / "model")


def share_exports(folder: Path) -> None:
    """Exports of networks to ONNX are kept in a folder and used again; see `fast_export`."""
    folder.mkdir(exist_ok=True)
    export = functools.partial(fast_export.export_once, folder)
    EXPORTERS["onnx"] = extract.export_network = frozen_prefix.export_network = export


MEASURED_S = latency._SHORTEST_S, latency._LONGEST_S
"""How long a latency is measured, at least and at most, as the product does it."""


def measure_latency_briefly() -> None:
    """Latencies are measured in seven rounds, and not for as long as makes them reliable."""
    latency._SHORTEST_S = latency._LONGEST_S = 0.0


@dataclass
class RecordedTask:
    """One counted piece of work."""

    recorder: "Recorder"
    name: str
    total: int
    done: int = 0
    notes: list[str] = field(default_factory=list)

    def advance(self, done=1):
        self.done += done
        self.recorder.advances += 1
        if self.recorder.advances == self.recorder.at_advance:
            self.recorder.interrupt()

    def note(self, text):
        self.notes.append(text)


class Recorder(SilentProgress):
    """Records the lines and the tasks of a stage, and interrupts it if told where.

    Args:
        at_line: Start of the line at which to interrupt.
        at_task: Name of the task at which to interrupt, or its number from 1.
        at_advance: Number from 1 of the advance (in training: the batch) at which to interrupt.
        by: What interrupts: an exception to raise, or a signal to send to this process.
    """

    def __init__(self, *, at_line=None, at_task=None, at_advance=None, by=KeyboardInterrupt):
        self.lines, self.tasks, self.advances = [], [], 0
        self.at_line, self.at_task, self.at_advance, self.by = at_line, at_task, at_advance, by

    def info(self, text):
        self.lines.append(text)
        if self.at_line is not None and text.startswith(self.at_line):
            self.interrupt()

    @contextmanager
    def task(self, name, total, unit="images"):
        self.tasks.append(RecordedTask(self, name, total))
        if self.at_task in (name, len(self.tasks)):
            self.interrupt()
        yield self.tasks[-1]

    def interrupt(self):
        if not isinstance(self.by, signal.Signals):
            raise self.by
        signal.raise_signal(self.by)


def tiny_network(name="test_efficientnet", *, num_classes=10, seed=0, **options):
    """A network of about 100,000 weights, always the same one. In eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return timm.create_model(name, num_classes=num_classes, **options).eval()


def tiny_classifier(classes, name="test_efficientnet", *, contract=CONTRACT, **options):
    """An untrained classifier of these classes, for images of 32 px."""
    network = tiny_network(name, num_classes=len(classes), **options)
    return replace(wrap(network, contract), classes=tuple(classes))


def tiny_pretrained(name):
    """Stands in for a packaged network such as EfficientNet-Lite0: 1,000 classes, no weights."""
    return wrap(tiny_network(num_classes=1000), CONTRACT, source=name)


def paint(path, seed, size=(8, 8), **options):
    """Writes a small random image, the same for the same seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)


def cross_entropy(logits, loss_inputs):
    """One loss per image."""
    return functional.cross_entropy(logits, loss_inputs.targets, reduction="none")


def same_weights(a, b):
    """Whether two networks, or two results that hold one, have the same weights bit by bit."""
    a, b = (getattr(side, "network", side).state_dict() for side in (a, b))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def curve(trained):
    """The training curve without its seconds."""
    return [
        (e.epoch, repr(e.train_loss), e.val_loss, e.val_accuracy, e.learning_rate)
        for e in trained.curve
    ]


class TensorBatches:
    """180 digits of 8 x 8 pixels to train on and 45 for val, in batches of tensors for the loop."""

    data, digest = None, "digits"

    def __init__(self, batch_size, seed=0, *, val=True):
        found = load_digits()
        images = torch.from_numpy(found.images.astype(np.float32))[:225] / 8 - 1
        labels = torch.from_numpy(found.target)[:225]
        self.train = images[:180], labels[:180]
        self.val = (images[180:], labels[180:]) if val else (images[:0], labels[:0])
        self.batch_size, self.seed = batch_size, seed
        self.images, self.val_images = 180, len(self.val[1])
        self.steps = len(cut(np.arange(180), batch_size))

    def train_batches(self, epoch, skip=0):
        rng = np.random.default_rng(derive_seed(self.seed, "order", epoch))
        images, labels = self.train
        for rows in cut(rng.permutation(180), self.batch_size)[skip:]:
            yield TrainBatch(images[rows], labels[rows], rows, len(rows), 1.0)

    def val_batches(self):
        if self.val_images:
            yield ValBatch(*self.val)

    def to_input(self, device):
        return lambda images: images.to(device)

    def forward_module(self, network):
        return network


def mlp(inputs=64, *, dropout=0.0, seed=0):
    """A small network with batch norm and a head for ten classes, always the same one."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(inputs, 48),
            nn.BatchNorm1d(48),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(48, 10),
        ).eval()
