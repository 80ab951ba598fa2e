"""Images a second of the cleaning checks, against those who do the same.

Each competitor looks at the same folder, in a process of its own, `--rounds` times in turn; the
median counts, imports left out. CPU time, of all processes together, hardly depends on what else
the machine does. The last column is the whole process, imports and all, as a person waits. Each is
measured against ours with the same checks:

- all: unreadable, exact and near-duplicates, dark, bright, blank, blurred, odd sizes, grey
  (`acclimate`, `cleanvision`, and `plain`, which is Pillow and imagehash, straight on);
- copies: unreadable, and near-duplicates by perceptual hash (`acclimate_copies`, `imagededup`).

Peers are used where they are installed: give the Python of an environment that has cleanvision,
imagededup and imagehash with `--peers`. Run:

    python benchmarks/cleaning_speed.py --data photos/ --peers other/bin/python
"""

import argparse
import hashlib
import logging
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

OURS = {"all": "acclimate", "copies": "acclimate_copies"}
PEERS = {"plain": "all", "cleanvision": "all", "imagededup": "copies"}
"""Which checks each does."""


def acclimate(folder: Path) -> Callable[[], object]:
    return ours(folder, ("unreadable", "duplicates", "near_duplicates", "quality"))


def acclimate_copies(folder: Path) -> Callable[[], object]:
    return ours(folder, ("unreadable", "near_duplicates"))


def ours(folder: Path, checks: tuple) -> Callable[[], object]:
    import pyarrow

    from acclimate.cleaning.clean import CHECKS
    from acclimate.cleaning.settings import Clean
    from acclimate.context import Context
    from acclimate.data.sources.read import read

    pyarrow.array([1])  # pyarrow imports pandas at its first list; the peers did so by now

    def job() -> None:
        dataset = read(folder)
        for name in checks:
            dataset = CHECKS[name].run(dataset, Clean(checks=checks), Context())

    return job


def plain(folder: Path) -> Callable[[], object]:
    """Pillow and imagehash, straight on, in threads."""
    import imagehash
    import numpy as np
    from PIL import Image, ImageFilter

    def look(path: Path) -> tuple:
        content = path.read_bytes()
        with Image.open(path) as image:
            rgb = image.convert("RGB")
        grey = rgb.convert("L")
        levels = np.asarray(grey)
        edges = np.asarray(grey.filter(ImageFilter.FIND_EDGES))
        channels = np.asarray(rgb).astype(int)
        return (
            hashlib.md5(content).hexdigest(),
            rgb.size,
            levels.mean(),
            levels.std(),
            edges.std(),
            grey.entropy(),
            np.abs(channels[..., 0] - channels[..., 1]).mean(),
            imagehash.phash(rgb),
        )

    def job() -> None:
        paths = sorted(p for p in folder.rglob("*") if p.is_file())
        with ThreadPoolExecutor() as pool:
            seen = list(pool.map(look, paths))
        hashes = np.stack([found[-1].hash.ravel() for found in seen])
        bits = hashes.astype(np.float32)
        near = [np.flatnonzero(bits @ (1 - row) + (1 - bits) @ row <= 4) for row in bits]
        assert len(near) == len(paths)

    return job


def cleanvision(folder: Path) -> Callable[[], object]:
    from cleanvision import Imagelab

    return lambda: Imagelab(data_path=str(folder)).find_issues(verbose=False)


def imagededup(folder: Path) -> Callable[[], object]:
    from imagededup.methods import PHash

    def job() -> None:
        hasher = PHash(verbose=False)
        hashes = hasher.encode_images(image_dir=str(folder), recursive=True)
        hasher.find_duplicates(encoding_map=hashes, max_distance_threshold=10)

    return job


def cpu_seconds() -> float:
    """Of this process and those it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in used)


def measured(python: str, name: str, folder: Path) -> tuple[float, float, float] | None:
    """Seconds, seconds of the processor, and seconds of the whole process."""
    command = [python, __file__, "--run", name, "--data", str(folder)]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    whole = time.perf_counter() - began
    if done.returncode:
        print(f"{name}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    wall, cpu = done.stdout.strip().splitlines()[-1].split()
    return float(wall), float(cpu), whole


def table(folder: Path, peers: str, rounds: int) -> None:
    count = sum(p.is_file() for p in folder.rglob("*"))
    times: dict[str, list[tuple[float, float, float]]] = {}
    for _ in range(rounds):
        for name in (*OURS.values(), *PEERS):
            python = peers if name in PEERS else sys.executable
            found = measured(python, name, folder)
            if found is not None:
                times.setdefault(name, []).append(found)
    middle = {
        name: [statistics.median(column) for column in zip(*found, strict=True)]
        for name, found in times.items()
    }
    checks = {name: which for which, name in OURS.items()} | PEERS
    print(
        f"| {count:,} images | checks | images/s | times ours | CPU ms an image | times ours "
        "| whole process, s |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, (wall, cpu, whole) in middle.items():
        our_wall, our_cpu, _ = middle[OURS[checks[name]]]
        print(
            f"| {name} | {checks[name]} | {count / wall:,.0f} | {wall / our_wall:.1f} | "
            f"{1000 * cpu / count:.2f} | {cpu / our_cpu:.1f} | {whole:.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder of images; else scikit-learn's digits")
    parser.add_argument("--peers", default=sys.executable, help="a Python that has the peers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run", choices=(*OURS.values(), *PEERS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    logging.disable(logging.INFO)
    if args.run:
        job = globals()[args.run](args.data)
        before, began = cpu_seconds(), time.perf_counter()
        job()
        print(time.perf_counter() - began, cpu_seconds() - before)
        return
    if args.data is not None:
        table(args.data, args.peers, args.rounds)
        return
    from acclimate.data.sample_data import write_digits

    with tempfile.TemporaryDirectory() as name:
        write_digits(Path(name) / "digits")
        table(Path(name) / "digits", args.peers, args.rounds)


if __name__ == "__main__":
    main()
