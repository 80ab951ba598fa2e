"""Images a second to the training step, against torchvision's ImageFolder and DataLoader.

Both give normalized float32 batches of 32: a random crop of half to all of the area, resized
(bilinear), and a mirror image half of the time. Ours decodes in the first epoch and reads what it
kept in the later ones. Each row is a process of its own, so that nobody inherits threads. Run:

    python benchmarks/loader_speed.py --data photos/

    python benchmarks/loader_speed.py --data photos/ --enlarge 1024

Without --data, 600 JPEG photos of about 640 x 427 px are made of two that come with scikit-learn.
--enlarge measures copies of the photos whose longer side has so many px, as a camera makes them.
The processor's time for an image (torchvision's workers do not tell theirs) hardly depends on what
else the machine does.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH, LEAST_AREA = 32, 0.5
LOADERS = ("torchvision-0", "torchvision-2", "acclimate")


def write_photos(folder: Path, count: int) -> None:
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    for index in range(count):
        label = index % 2
        photo = Image.fromarray(load_sample_images().images[label])
        left, top = rng.uniform(0, 0.1, 2) * photo.size
        width, height = rng.uniform(0.85, 0.9, 2) * photo.size
        part = photo.resize((640, 427), box=(left, top, left + width, top + height))
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        part.save(place / f"{index:05d}.jpg", quality=90)


def write_enlarged(source: Path, folder: Path, side: int) -> None:
    from PIL import Image

    for path in sorted(source.glob("*/*.*")):
        photo = Image.open(path).convert("RGB")
        scale = side / max(photo.size)
        place = folder / path.parent.name
        place.mkdir(parents=True, exist_ok=True)
        size = (round(photo.width * scale), round(photo.height * scale))
        large = photo.resize(size, Image.Resampling.BICUBIC)
        large.save(place / f"{path.stem}.jpg", quality=90)


def torchvision_epochs(folder: Path, size: int, workers: int):
    import torch
    from torchvision import datasets, transforms

    steps = [
        transforms.RandomResizedCrop(size, scale=(LEAST_AREA, 1.0)),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    torch.manual_seed(0)
    images = datasets.ImageFolder(folder, transforms.Compose(steps))
    loader = torch.utils.data.DataLoader(
        images, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    while True:
        yield (batch for batch, _ in loader)


def acclimate_epochs(folder: Path, size: int, cache: Path):
    import torch

    import acclimate
    from acclimate.augmentation.policy import Policy
    from acclimate.context import Context, derive_seed
    from acclimate.data.images.batches import batches
    from acclimate.models.runtime import Normalizer
    from acclimate.training.batches.training_images import TrainingImages
    from acclimate.training.engine.allocator import keep_freed_memory

    dataset = acclimate.clean(folder)
    contract = acclimate.InputContract(size, MEAN, STD, "bilinear", 0.875)
    policy = Policy(LEAST_AREA, True, 0.0, (), 0, 0.0)
    views = TrainingImages(dataset, policy, contract, Context(cache=cache))
    to_input = Normalizer(contract, torch.device("cpu"))
    rows, kept = dataset.rows(), views.train_pictures

    def epoch(number: int):
        order = np.random.default_rng(number).permutation(rows)
        groups = np.split(order, range(BATCH, len(order), BATCH))
        for batch in batches(
            dataset, groups, lambda row: views.augmented(row, derive_seed(0, number, row))
        ):
            yield to_input(torch.from_numpy(batch.images))
        kept.flush()

    with keep_freed_memory():  # as in a training
        for number in itertools.count():
            yield epoch(number)


def measure(name: str, folder: Path, size: int) -> list[tuple[float, float]]:
    """Images a second of four epochs, and this process's time for each of them in ms."""
    with tempfile.TemporaryDirectory() as cache:
        if name == "acclimate":
            epochs = acclimate_epochs(folder, size, Path(cache))
        else:
            epochs = torchvision_epochs(folder, size, int(name[-1]))
        rates = []
        for epoch in itertools.islice(epochs, 4):
            began, worked, count = time.perf_counter(), time.process_time(), 0
            for batch in epoch:
                assert batch.shape[1:] == (3, size, size)
                count += len(batch)
            worked = 1000 * (time.process_time() - worked) / count
            rates.append((count / (time.perf_counter() - began), worked))
        return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="Folder of class folders.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 128])
    parser.add_argument("--enlarge", type=int, help="Longer side of the photos, in px.")
    parser.add_argument("--only", choices=LOADERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args.only, args.data, args.sizes[0])))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = args.data or Path(name) / "photos"
        if args.data is None:
            write_photos(folder, 600)
        if args.enlarge:
            write_enlarged(folder, Path(name) / "large", args.enlarge)
            folder = Path(name) / "large"
        print("| px | loader | first epoch | later | against the best | first, ms | later, ms |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for size in args.sizes:
            best = 0.0
            for loader in LOADERS:
                command = [sys.executable, __file__, "--only", loader, "--data", str(folder)]
                command += ["--sizes", str(size)]
                told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                (first, first_ms), *later = json.loads(told)
                rate, later_ms = (statistics.median(column) for column in zip(*later, strict=True))
                cells = [f"{first:,.0f}", f"{rate:,.0f}"]
                cells.append(f"{rate / best:.1f} times" if loader == "acclimate" else "")
                alone = not loader.endswith("-2")  # its worker processes are not counted
                cells += [f"{first_ms:.2f}", f"{later_ms:.2f}"] if alone else ["", ""]
                best = max(best, rate)
                print(f"| {size} | {loader} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
