"""What a model store survives: many processes at once, and kills at any moment.

    python benchmarks/registry_faults.py [races] [kills]

`races`: 20 processes register a model each in a store that does not exist yet, ten times. All 20
versions must be there, verify, and have one key.
`kills`: a process that registers, promotes and rolls back is killed 50 times, at random moments.
Afterwards the store must open, and each version that it lists must verify.
"""

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import timm
import torch

from acclimate.models.classifier import Classifier
from acclimate.models.pretrained import wrap
from acclimate.registry.settings import Register
from acclimate.registry.versions import Registry

RACES, PROCESSES, KILLS = 10, 20, 50
LONGEST_S = 1.5
"""Of the work before a kill: long enough for a few versions, and short enough to hit the first."""


def model(seed: int) -> Classifier:
    torch.manual_seed(seed)
    return wrap(timm.create_model("test_efficientnet", pretrained=False, num_classes=3))


def opened(folder: Path) -> Registry:
    return Registry(Register(store=folder / "store", key=folder / "key.pem"))


def races() -> None:
    whole = 0
    for race in range(RACES):
        with tempfile.TemporaryDirectory() as place:
            failed = run_at_once(Path(place))
            registry = opened(Path(place))
            versions = registry.versions("leaf")
            for version in versions:
                registry.verify(version)
            numbers = [version.number for version in versions]
            whole += numbers == list(range(1, PROCESSES + 1)) and not failed
            print(f"race {race + 1}: {len(versions)} versions, {failed} processes failed")
    print(f"races: {whole} of {RACES} with {PROCESSES} versions")


def run_at_once(folder: Path) -> int:
    """Starts all processes at one moment; returns how many failed."""
    start, children = time.time() + 3, []
    for seed in range(PROCESSES):
        child = os.fork()
        if child == 0:
            own = model(seed)
            time.sleep(max(0.0, start - time.time()))
            in_child(lambda own=own: opened(folder).publish("leaf", own))
        children.append(child)
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


def in_child(work: object) -> None:
    """Ends the process with 0 if the work succeeds."""
    try:
        work()
        os._exit(0)
    except BaseException as error:
        print(f"  {error}", file=sys.stderr)
        os._exit(1)


def kills() -> None:
    rng, lost = random.Random(0), 0
    with tempfile.TemporaryDirectory() as place:
        folder, seen = Path(place), 0
        for kill in range(KILLS):
            child = os.fork()
            if child == 0:
                in_child(lambda kill=kill: work_on(folder, kill))
            time.sleep(rng.uniform(0, LONGEST_S))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            numbers = check(folder)
            lost += len(numbers) < seen or numbers != list(range(1, len(numbers) + 1))
            seen = len(numbers)
        print(f"kills: {KILLS}, versions registered: {seen}, after which one was lost: {lost}")


def work_on(folder: Path, kill: int) -> None:
    registry = opened(folder)
    for step in range(100):
        registry.publish("leaf", model(1000 * kill + step))
        registry.promote("leaf", "latest")
        if step % 2:
            registry.rollback("leaf")


def check(folder: Path) -> list[int]:
    """The numbers of all versions, each verified, and the champion too."""
    child = os.fork()  # MLflow keeps connections to a database, which must not be shared
    if child == 0:
        in_child(lambda: verify_all(folder))
    if os.waitpid(child, 0)[1] != 0:
        raise SystemExit("the store is broken")
    return [int(line) for line in (folder / "numbers").read_text().split()]


def verify_all(folder: Path) -> None:
    registry = opened(folder)
    versions = registry.versions("leaf") if registry.names() else []
    for version in versions:
        registry.verify(version)
    if versions and registry.champion("leaf") is not None:
        registry.load(registry.version("leaf", "champion"))
    (folder / "numbers").write_text(" ".join(str(version.number) for version in versions))


if __name__ == "__main__":
    torch.set_num_threads(1)
    wanted = sys.argv[1:] or ["races", "kills"]
    for name in wanted:
        {"races": races, "kills": kills}[name]()
