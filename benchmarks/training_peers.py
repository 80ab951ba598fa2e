"""One fine-tuning run by fastai or timm: a JSON line for each judged epoch.

Run by `time_to_accuracy.py` and `small_data.py` with the interpreter that has the peers. The clock
starts after the imports and stands still while test images are judged; decoding, the search for
a learning rate, and a peer's own preparations count. No method chooses anything on val or test:
what is judged is the network, or where the method keeps an average of weights that average, after
the last epoch.

- fastai: `vision_learner` and `fine_tune(epochs)`, nothing else set; `Resize` and
  `aug_transforms()`, as in https://docs.fast.ai/tutorial.vision.html.
- fastai-advice: what the same page and chapter 5 of fastai's book (05_pet_breeds.ipynb) advise:
  presizing (`Resize` to twice the size, then `aug_transforms(size, min_scale=0.75)`) and the rate
  that `lr_find` suggests.
- timm: the defaults of timm's train.py: SGD with 0.1 for a batch of 256, cosine by epochs, 5 epochs
  of warm-up, crops of 8 to 100 % of the area, mirror images, color jitter of 0.4, smoothing of 0.1.
- timm-advice: timm's only documented command for fine-tuning (`--pretrained --batch-size 32 --opt
  adamw --weight-decay 0.01`, https://huggingface.co/docs/timm/training_script), with the average of
  weights (ModelEmaV3) of the EfficientNet recipes on that page, and Mixup; see ADVISED_RATE.

Both drop the batch that is not full, so a batch is at most a quarter of the images: with their
defaults of 64 and 128 a few images would make no step at all.
"""

import argparse
import json
import os
import random
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

NETWORK = "tf_efficientnet_lite0"
ADVISED_RATE = 1e-3
"""Tried on 250 flowers of 64 px, 16 epochs: the command's own 1e-4 is for longer training and ends
at 0.35, 1e-3 at 0.53, 3e-3 at 0.54. The recipes' dropout and drop-path of 0.2 are left out:
with or without them 300 images of CIFAR-10 ended near 0.3."""


@dataclass(frozen=True)
class Task:
    """What every method is given: files with class ids, weights, and how long to learn."""

    classes: list[str]
    train: list[tuple[str, int]]
    test: list[tuple[str, int]]
    judged: set[int]
    weights: str
    epochs: int
    size: int

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Task":
        known = json.loads(args.listing.read_text())
        train, test = ([(p, int(c)) for p, c in known[split]] for split in ("train", "test"))
        judged = set(known["judged"])
        return cls(known["classes"], train, test, judged, str(args.weights), args.epochs, args.size)

    def batch(self, default: int) -> int:
        """The default, at most a quarter of the images, and even, as timm's Mixup wants it."""
        return max(2, min(default, len(self.train) // 4) // 2 * 2)


@dataclass
class Clock:
    """Seconds of training."""

    began: float = field(default_factory=time.perf_counter)
    judging: float = 0.0
    paused: float = 0.0

    def pause(self) -> None:
        self.paused = time.perf_counter()

    def tell(self, epoch: int, accuracy: float) -> None:
        """Prints the point that was reached when the clock was stopped; goes on."""
        seconds = self.paused - self.began - self.judging
        point = {"epoch": epoch, "seconds": round(seconds, 2), "accuracy": accuracy}
        print(json.dumps(point), flush=True)
        self.judging += time.perf_counter() - self.paused


def cores() -> int:
    return len(os.sched_getaffinity(0))


def workers() -> int:
    """On one core a loader's process only takes time from the training.

    On two, busy ones, fastai with two of them had not ended after 100 s what takes 14 s without.
    """
    return 0 if cores() <= 2 else cores()


def fastai(task: Task, *, advised: bool) -> None:
    from fastai.vision import all as vision

    clock = Clock()
    judge = fastai_judge(task, clock)
    shown = [(path, task.classes[c], False) for path, c in task.train]
    shown += [(path, task.classes[c], True) for path, c in task.test]
    item = vision.Resize(2 * task.size if advised else task.size)
    batch = (
        vision.aug_transforms(size=task.size, min_scale=0.75)
        if advised
        else vision.aug_transforms()
    )
    block = vision.DataBlock(
        blocks=(vision.ImageBlock, vision.CategoryBlock(vocab=task.classes)),
        get_x=vision.ItemGetter(0),
        get_y=vision.ItemGetter(1),
        splitter=vision.FuncSplitter(lambda one: one[2]),
        item_tfms=item,
        batch_tfms=batch,
    )
    with tempfile.TemporaryDirectory() as scratch:
        loaders = block.dataloaders(
            shown, bs=task.batch(64), num_workers=workers(), device=torch.device("cpu")
        )
        learner = vision.vision_learner(
            loaders, NETWORK, pretrained_cfg_overlay={"file": task.weights}, path=Path(scratch)
        )
        learner.model.to(memory_format=torch.channels_last)
        with learner.no_bar(), learner.no_logging():
            chosen = {"base_lr": learner.lr_find(show_plot=False).valley} if advised else {}
            learner.add_cb(judge)
            learner.fine_tune(task.epochs, **chosen)


def fastai_judge(task: Task, clock: Clock):
    """A callback: the test images are fastai's valid set, judged in some of the epochs."""
    from fastai.callback.core import Callback, CancelValidException

    class Judge(Callback):
        order = -100  # the clock stops before any other callback of the valid phase

        def __init__(self) -> None:
            self.passed, self.right, self.judging = -1, 0, False

        def before_validate(self) -> None:
            self.passed += 1  # the first pass, with a frozen body, is epoch 0
            self.judging, self.right = self.passed in task.judged, 0
            if not self.judging:
                raise CancelValidException
            clock.pause()

        def after_batch(self) -> None:
            if not self.training:
                self.right += int((self.pred.argmax(1) == self.y).sum())

        def after_validate(self) -> None:  # comes after a pass that was called off too
            if self.judging:
                clock.tell(self.passed, self.right / len(task.test))

    return Judge()


class Listed(torch.utils.data.Dataset):
    """What timm's loader wants: images, with the transform that it sets."""

    def __init__(self, files: list[tuple[str, int]]) -> None:
        self.files, self.transform = files, None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, at: int) -> tuple[object, int]:
        from PIL import Image

        path, label = self.files[at]
        with Image.open(path) as image:
            return self.transform(image.convert("RGB")), label


@dataclass
class TimmRecipe:
    """Options of train.py by their names there, at their defaults."""

    opt: str = "sgd"
    lr: float | None = None
    lr_base: float = 0.1
    weight_decay: float = 2e-5
    batch_size: int = 128
    warmup_epochs: int = 5
    sched_on_updates: bool = False
    scale: tuple[float, float] = (0.08, 1.0)
    mixup: float = 0.0
    model_ema: bool = False

    def rate(self, batch: int) -> float:
        return self.lr_base * batch / 256 if self.lr is None else self.lr


ADVISED = TimmRecipe(
    opt="adamw", lr=ADVISED_RATE, weight_decay=0.01, batch_size=32, warmup_epochs=1,
    sched_on_updates=True, mixup=0.2, model_ema=True,
)  # fmt: skip


def timm_style(task: Task, recipe: TimmRecipe) -> None:
    """The loop of train.py, without what needs a GPU or several of them."""
    from timm import create_model
    from timm.data import Mixup, create_loader, resolve_data_config
    from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.utils import ModelEmaV3

    clock, batch = Clock(), task.batch(recipe.batch_size)
    network = create_model(
        NETWORK, pretrained=True, pretrained_cfg_overlay={"file": task.weights},
        num_classes=len(task.classes),
    )  # fmt: skip
    network.to(memory_format=torch.channels_last)
    expects = resolve_data_config({"input_size": (3, task.size, task.size)}, model=network)
    same = {
        "input_size": expects["input_size"], "mean": expects["mean"], "std": expects["std"],
        "num_workers": workers(), "persistent_workers": workers() > 0, "use_prefetcher": False,
        "device": torch.device("cpu"),
    }  # fmt: skip
    seen = create_loader(
        Listed(task.train), batch_size=batch, is_training=True, interpolation="random",
        scale=recipe.scale, ratio=(3 / 4, 4 / 3), **same,
    )  # fmt: skip
    test = create_loader(
        Listed(task.test), batch_size=64, interpolation=expects["interpolation"],
        crop_pct=expects["crop_pct"], **same,
    )  # fmt: skip
    optimizer = create_optimizer_v2(
        network, opt=recipe.opt, lr=recipe.rate(batch), weight_decay=recipe.weight_decay
    )  # fmt: skip
    schedule, _ = create_scheduler_v2(
        optimizer, "cosine", num_epochs=task.epochs, updates_per_epoch=len(seen),
        warmup_epochs=min(recipe.warmup_epochs, task.epochs // 2),
        step_on_epochs=not recipe.sched_on_updates,
    )  # fmt: skip
    mix = Mixup(recipe.mixup, num_classes=len(task.classes)) if recipe.mixup else None
    loss_of = SoftTargetCrossEntropy() if mix else LabelSmoothingCrossEntropy(0.1)
    average = ModelEmaV3(network, decay=0.9999, use_warmup=True) if recipe.model_ema else None
    step = 0
    for epoch in range(1, task.epochs + 1):
        network.train()
        for images, targets in seen:
            images = images.contiguous(memory_format=torch.channels_last)
            if mix:
                images, targets = mix(images, targets)
            loss = loss_of(network(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if average:
                average.update(network, step=step)
            schedule.step_update(num_updates=step)
        schedule.step(epoch)
        if epoch in task.judged:
            clock.pause()
            clock.tell(epoch, accuracy(average.module if average else network, test))


def accuracy(network: nn.Module, loader: object) -> float:
    network.eval()
    right = seen = 0
    with torch.inference_mode():
        for images, targets in loader:
            right += int((network(images).argmax(1) == targets).sum())
            seen += len(targets)
    return right / seen


METHODS = {
    "fastai": lambda task: fastai(task, advised=False),
    "fastai-advice": lambda task: fastai(task, advised=True),
    "timm": lambda task: timm_style(task, TimmRecipe()),
    "timm-advice": lambda task: timm_style(task, ADVISED),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("--listing", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.method.startswith("fastai"):
        import fastai.vision.all  # noqa: F401 - imports are not counted
    else:
        import timm.data  # noqa: F401
    random.seed(args.seed)
    np.random.seed(args.seed)  # noqa: NPY002 - fastai and timm draw from it
    torch.manual_seed(args.seed)
    torch.set_num_threads(cores())
    # Without it fastai's epochs took ten times as long on flowers: numbers too small to be normal.
    torch.set_flush_denormal(True)
    METHODS[args.method](Task.of(args))


if __name__ == "__main__":
    main()
