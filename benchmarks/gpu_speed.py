"""Images a second on a GPU: a whole epoch of `fine_tune`, timm's loop, and the bare training step.

- step: batches that lie on the device already, forward, backward and AdamW; nothing is loaded. Also
  in float32's layout, without the fused AdamW, and compiled with `torch.compile`.
- timm: timm's `create_loader` with its prefetcher, a worker for each core, and the training loop of
  its train.py: mixed precision, channels last, AdamW.
- acclimate: `fine_tune` with random crops, mirror images and color, on the same JPEG photos of
  640 x 427 px. The first epoch decodes them, later ones read what it kept.

Each row is a process of its own, so that peak memory and threads are its own. Networks have random
weights. Run it with:

    python benchmarks/gpu_speed.py
    python benchmarks/gpu_speed.py --device cpu --images 64 --size 64 --networks efficientnet_lite0
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from loader_speed import MEAN, STD, write_photos

NETWORKS = ("efficientnet_lite0", "resnet50", "vit_base_patch16_224")
VARIANTS = ("step", "contiguous", "not_fused", "float32", "compiled")
LIMIT_S = 150
"""Of one row; what takes longer is told and left out."""


def autocast(device):
    import torch

    return torch.autocast(device.type, dtype=torch.bfloat16)


def synchronize(device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def build(name: str, device, variant: str):
    """A network in training mode, on the device; channels last, unless the variant is not."""
    import timm
    import torch

    network = timm.create_model(name, num_classes=2).to(device).train()
    if variant != "contiguous":
        network = network.to(memory_format=torch.channels_last)
    return network


def bare_step(args: argparse.Namespace, variant: str) -> dict[str, float]:
    import torch
    from torch.nn import functional

    device = torch.device(args.device)
    network = build(args.networks[0], device, variant)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=variant != "not_fused")
    images = torch.randn(args.batch, 3, args.size, args.size, device=device)
    if variant != "contiguous":
        images = images.to(memory_format=torch.channels_last)
    targets = torch.randint(0, 2, (args.batch,), device=device)
    forward = torch.compile(network) if variant == "compiled" else network
    precision = contextlib.nullcontext if variant == "float32" else lambda: autocast(device)

    def step() -> None:
        with precision():
            logits = forward(images)
        functional.cross_entropy(logits.float(), targets).backward()
        optimizer.step()
        optimizer.zero_grad()

    return {"batch": args.batch, **timed(step, args, device)}


def timed(step: Callable[[], None], args: argparse.Namespace, device) -> dict[str, float]:
    """Seconds of the first two steps, in which kernels are chosen, and images a second after it."""
    began = time.perf_counter()
    for _ in range(2):
        step()
    synchronize(device)
    first = time.perf_counter() - began
    rates = []
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(args.steps):
            step()
        synchronize(device)
        rates.append(args.steps * args.batch / (time.perf_counter() - began))
    return {"first_s": first, "images_per_s": statistics.median(rates), **peak(device)}


def peak(device) -> dict[str, float]:
    import torch

    if device.type != "cuda":
        return {}
    return {"peak_gb": torch.cuda.max_memory_allocated() / 1e9}


def timm_loop(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    import timm.data
    import torch

    device = torch.device(args.device)
    network = build(args.networks[0], device, "step")
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, weight_decay=0.05)
    lossy = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    on_gpu = device.type == "cuda"
    loader = timm.data.create_loader(
        timm.data.create_dataset("", root=str(folder), split="train"),
        input_size=(3, args.size, args.size), batch_size=args.batch, is_training=True,
        mean=MEAN, std=STD, num_workers=len(os.sched_getaffinity(0)), use_prefetcher=on_gpu,
        pin_memory=on_gpu, device=device, persistent_workers=True,
    )  # fmt: skip
    seconds = []
    for _ in range(args.epochs):
        began, count = time.perf_counter(), 0
        for images, targets in loader:
            images = images.to(memory_format=torch.channels_last)
            with autocast(device):
                loss = lossy(network(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            count += len(images)
        synchronize(device)
        seconds.append((time.perf_counter() - began) / count)
    return rates(seconds, device)


def rates(seconds: list[float], device) -> dict[str, float]:
    """Of seconds an image in each epoch: the first epoch's images a second, and the later ones'."""
    later = statistics.median(1 / s for s in seconds[1:])
    return {"first_epoch": 1 / seconds[0], "images_per_s": later, **peak(device)}


def ours(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    import timm
    import torch

    from acclimate.augmentation.policy import POLICIES
    from acclimate.cleaning.clean import clean
    from acclimate.cleaning.settings import Clean
    from acclimate.context import Context
    from acclimate.data.images.contract import InputContract
    from acclimate.data.sources.read import read
    from acclimate.fine_tuning.fine_tune import fine_tune
    from acclimate.fine_tuning.settings import FineTune
    from acclimate.models.pretrained import wrap
    from acclimate.training.curve import Epoch

    device = torch.device(args.device)
    context = Context(device=args.device, cache=folder.parent / "cache")
    checks = Clean(checks=("unreadable",), val=0.02, test=0.02)
    dataset = clean(read(folder), checks, context=context)
    contract = InputContract(args.size, MEAN, STD, "bilinear", 0.875)
    name = args.networks[0]
    start = wrap(timm.create_model(name, num_classes=2), contract, source=name)
    settings = FineTune(
        epochs=args.epochs, batch_size=args.batch, learning_rate=1e-4, batch_norm="train",
        trainable="all", class_statistics=False, precision="bf16-mixed",
    )  # fmt: skip
    ends: list[float] = []

    def note(epoch: Epoch) -> bool:
        ends.append(epoch.seconds)
        return True

    fine_tune(start, dataset, POLICIES["basic"], settings, context=context, epoch_callback=note)
    images = len(dataset.rows("train"))
    seconds = [(end - begin) / images for begin, end in zip([0.0, *ends], ends, strict=False)]
    return rates(seconds, device)


def in_own_process(args: argparse.Namespace, network: str, row: str, folder: Path) -> dict:
    command = [sys.executable, __file__, "--row", row, "--networks", network]
    for name in ("device", "images", "size", "batch", "epochs", "steps"):
        command += [f"--{name}", str(getattr(args, name))]
    try:
        done = subprocess.run(
            [*command, "--folder", str(folder)], capture_output=True, text=True, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return {"fault": f"more than {LIMIT_S} s"}
    if done.returncode:
        return {"fault": (done.stderr.strip() or "no output").splitlines()[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def line(network: str, row: str, found: dict, bare: float) -> str:
    if "fault" in found:
        return f"| {network} | {row} | {found['fault']} | | | |"
    rate = found["images_per_s"]
    first = (
        f"{found['first_epoch']:,.0f}" if "first_epoch" in found else f"{found['first_s']:.1f} s"
    )
    memory = f"{found['peak_gb']:.1f}" if "peak_gb" in found else ""
    against = f"{rate / bare:.2f}" if bare else ""
    return f"| {network} | {row} | {first} | {rate:,.0f} | {against} | {memory} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="Names of timm.")
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rows", nargs="+", default=("step", "timm", "acclimate", *VARIANTS[1:]))
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row in VARIANTS:
        print(json.dumps(bare_step(args, args.row)))
    elif args.row:
        print(json.dumps({"timm": timm_loop, "acclimate": ours}[args.row](args, args.folder)))
    else:
        compare(args)


def compare(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "photos"
        write_photos(folder, args.images)
        print("| network | row | first epoch, or first two steps | images/s | of the step | GB |")
        print("| --- | --- | --- | --- | --- | --- |")
        bare: dict[str, float] = {}
        # Compiling takes longest: what a time limit cuts off is that.
        for row in args.rows:
            for network in args.networks:
                found = in_own_process(args, network, row, folder)
                if row == "step":
                    bare[network] = found.get("images_per_s", 0.0)
                print(line(network, row, found, bare.get(network, 0.0)), flush=True)


if __name__ == "__main__":
    main()
