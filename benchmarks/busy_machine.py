"""What a busy machine costs, with threads as the libraries start them and as the command does.

    python benchmarks/busy_machine.py [--others 2] [--rounds 5]

Three works of EfficientNet-Lite0: a training step on 32 images (PyTorch), features of 32 images and
the prediction for one image (ONNX Runtime). Each process measures one work alone, and then beside
other processes that never rest. The ways take turns. A process with t threads beside n others on c
cores has c / (t + n) of the time of each thread; the last column is the busy time as a multiple of
what that fair share would take.

With `--ahead` (Linux, root), the processes run before all other work while they measure, which
replaces a quiet machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from acclimate.cpu import WAITING, set_thread_variables, usable_cores

_SIZE, _BATCH = 96, 32
WORKS = ("step", "features", "predict")
_ENDLESS = "import os, time\nwhile os.getppid() == {parent} and time.monotonic() < {end}: pass"
"""Another process; it ends with the one that started it, or after its time."""


def step() -> Callable[[], object]:
    """A training step."""
    import torch

    from acclimate.models.device import on_device
    from acclimate.models.pretrained import pretrained
    from acclimate.models.settings import Model
    from acclimate.training.engine.batch_norm import set_mode

    network = on_device(pretrained(Model()).module(), torch.device("cpu"))
    set_mode(network, freeze_batch_norm=True)
    images = torch.randn(_BATCH, 3, _SIZE, _SIZE).to(memory_format=torch.channels_last)
    targets = torch.arange(_BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=True)

    def run() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), targets).backward()
        optimizer.step()

    return run


def inference(graph: Path, images: int, way: str) -> Callable[[], object]:
    """A pass of ONNX Runtime."""
    import numpy as np

    from acclimate.models import runtime

    if way == "libraries":
        runtime.SPINNING = {}
    run = runtime.open_session(graph.read_bytes(), "cpu")
    pixels = np.random.default_rng(0).random((images, 3, _SIZE, _SIZE), np.float32)
    return lambda: run(pixels)


def mean_seconds(unit: Callable[[], object], seconds: float) -> float:
    """The mean, since that is what a long work takes."""
    began, done = time.perf_counter(), 0
    while done < 2 or time.perf_counter() - began < seconds:
        unit()
        done += 1
    return (time.perf_counter() - began) / done


def measure(args: argparse.Namespace) -> None:
    """Prints the seconds of a unit of one work, idle and busy."""
    images = {"features": _BATCH, "predict": 1}
    graph = Path(args.graph)
    unit = step() if args.one == "step" else inference(graph, images[args.one], args.way)
    for _ in range(2):
        unit()
    if args.ahead:
        Path("/proc/self/autogroup").write_text("-20")
    idle = mean_seconds(unit, args.seconds)
    code = _ENDLESS.format(parent=os.getpid(), end=time.monotonic() + 20 * args.seconds)
    others = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(args.others)]
    try:
        time.sleep(0.2)
        print(json.dumps([idle, mean_seconds(unit, args.seconds)]))
    finally:
        for other in others:
            other.kill()


def variables(way: str) -> dict[str, str]:
    """The environment of a way: of the libraries, of the command, or with a setting for trial."""
    for name in (*WAITING, "OMP_NUM_THREADS"):
        os.environ.pop(name, None)
    if way == "acclimate":
        set_thread_variables()
    elif "=" in way:
        name, _, value = way.partition("=")
        os.environ[name] = value
    return dict(os.environ)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--others", type=int, default=2, help="Other processes.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="Of a measurement.")
    parser.add_argument("--works", nargs="+", choices=WORKS, default=WORKS)
    parser.add_argument("--ways", nargs="+", default=["libraries", "acclimate"])
    parser.add_argument("--ahead", action="store_true", help="Before all other work.")
    for hidden in ("--one", "--way", "--graph"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "lite0.onnx"
        found = {work: compare(work, graph, args) for work in args.works}
    threads = usable_cores()
    fair = (threads + args.others) / threads
    print(f"| work | threads | idle, ms | {args.others} others, ms | over the fair share |")
    print("| --- | --- | --- | --- | --- |")
    for work, ways in found.items():
        for way, times in ways.items():
            idle, busy = (1e3 * statistics.median(t) for t in zip(*times, strict=True))
            print(f"| {work} | {way} | {idle:.1f} | {busy:.1f} | {busy / (fair * idle):.2f} |")


def compare(work: str, graph: Path, args: argparse.Namespace) -> dict[str, list[list[float]]]:
    """Way to idle and busy seconds of each round."""
    if work != "step" and not graph.exists():
        from acclimate.models.onnx.export import export_network
        from acclimate.models.pretrained import pretrained
        from acclimate.models.settings import Model

        graph.write_bytes(export_network(pretrained(Model()).module(), _SIZE, "logits"))
    found: dict[str, list[list[float]]] = {way: [] for way in args.ways}
    given = ["--others", str(args.others), "--seconds", str(args.seconds), "--graph", str(graph)]
    given += ["--ahead"] if args.ahead else []
    for _ in range(args.rounds):
        for way in args.ways:
            done = subprocess.run(
                [sys.executable, __file__, "--one", work, "--way", way, *given],
                capture_output=True, text=True, check=True, env=variables(way),
                start_new_session=args.ahead,
            )  # fmt: skip
            found[way].append(json.loads(done.stdout))
            print(work, way, done.stdout.strip(), file=sys.stderr)
    return found


if __name__ == "__main__":
    main()
