"""Seconds of a training step: PyTorch's own, with memory kept, and with fewer passes as well.

EfficientNet-Lite0 with frozen batch norm, batches of 32, AdamW; each way in a process of its own,
twice in turns. Run it with:

    python benchmarks/step_speed.py
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import time

WAYS = ("plain", "kept", "fused")


def steps(size: int, count: int, way: str) -> float:
    """Median of the processor's seconds for a step."""
    import torch
    from torch.nn import functional

    from acclimate.models.device import on_device
    from acclimate.models.pretrained import pretrained
    from acclimate.models.settings import Model
    from acclimate.training.engine.allocator import keep_freed_memory
    from acclimate.training.engine.batch_norm import set_mode
    from acclimate.training.engine.fused_batch_norm import Fusion, find_fusion, fused

    network = on_device(pretrained(Model()).module(), torch.device("cpu"))
    set_mode(network, freeze_batch_norm=True)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=True)
    images = torch.randn(32, 3, size, size).to(memory_format=torch.channels_last)
    targets = torch.randint(0, 1000, (32,))
    fusion = find_fusion(network, images[:2]) if way == "fused" else Fusion()
    seconds = []
    with contextlib.nullcontext() if way == "plain" else keep_freed_memory():
        for _ in range(count):
            began = time.process_time()
            with fused(fusion):
                logits = network(images)
            functional.cross_entropy(logits, targets).backward()
            optimizer.step()
            optimizer.zero_grad()
            seconds.append(time.process_time() - began)
    return statistics.median(seconds[1:])


def alone(size: int, count: int, way: str) -> float:
    command = [sys.executable, __file__, "--one", way, "--sizes", str(size), "--steps", str(count)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 224])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(steps(args.sizes[0], args.steps, args.one))
        return
    print("| px | PyTorch's own, s | faster, memory kept | fewer passes too |")
    print("| --- | --- | --- | --- |")
    for size in args.sizes:
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(2):
            for way in WAYS:
                found[way].append(alone(size, args.steps, way))
        own, kept, fewer = (statistics.mean(found[way]) for way in WAYS)
        print(
            f"| {size} | {own:.2f} | {own / kept:.2f} times less | {own / fewer:.2f} times less |"
        )


if __name__ == "__main__":
    main()
