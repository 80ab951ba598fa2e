"""Seconds of a training step with and without the memory that a training keeps.

EfficientNet-Lite0, batches of 32, AdamW; what the C library does by itself against
`freed_memory_kept`, each in a process of its own, twice in turns. Run it with:

    python benchmarks/step_speed.py
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import time


def steps(size: int, count: int) -> float:
    """Median of the processor's seconds for a step."""
    import torch
    from torch.nn import functional

    from acclimate.models.device import on_device
    from acclimate.models.pretrained import pretrained
    from acclimate.models.settings import Model

    network = on_device(pretrained(Model()).module(), torch.device("cpu")).train()
    rule = torch.optim.AdamW(network.parameters(), 1e-4, fused=True)
    images = torch.randn(32, 3, size, size).to(memory_format=torch.channels_last)
    targets = torch.randint(0, 1000, (32,))
    seconds = []
    for _ in range(count):
        began = time.process_time()
        functional.cross_entropy(network(images), targets).backward()
        rule.step()
        rule.zero_grad()
        seconds.append(time.process_time() - began)
    return statistics.median(seconds[1:])


def alone(size: int, count: int, kept: bool) -> float:
    command = [sys.executable, __file__, "--one", str(size), "--steps", str(count)]
    if kept:
        command.append("--kept")
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 224])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--kept", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        from acclimate.training.allocation import freed_memory_kept

        with freed_memory_kept() if args.kept else contextlib.nullcontext():
            print(steps(args.one, args.steps))
        return
    print("| px | by itself, s | kept, s | times |\n| --- | --- | --- | --- |")
    for size in args.sizes:
        usual, kept = [], []
        for _ in range(2):
            usual.append(alone(size, args.steps, kept=False))
            kept.append(alone(size, args.steps, kept=True))
        a, b = statistics.mean(usual), statistics.mean(kept)
        print(f"| {size} | {a:.2f} | {b:.2f} | {a / b:.2f} |", flush=True)


if __name__ == "__main__":
    main()
