"""The installed command, as a person runs it: what it prints, what it writes, how it ends.

A command that trains needs four seconds to import torch. So that many can be run, one process
imports everything once and forks for each of them; the child then runs the very script that the
installation put beside the interpreter. `cold` starts a process of its own instead.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from acclimate.data.sample_data import write_digits, write_shifted
from kit import made_once

SCRIPT = Path(sys.executable).parent / "acclimate"
TINY = "timm:test_efficientnet"
TIMEOUT_S = 290
IMPORTED = (
    "acclimate.api.stages", "acclimate.api.models", "acclimate.pipeline.run", "acclimate.doctor",
    "acclimate.reporting.report", "acclimate.registry.versions", "acclimate.terminal",
    "torch.onnx", "onnxscript", "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
)  # fmt: skip

SERVER = """
import importlib, json, os, resource, runpy, sys, traceback
from pathlib import Path

sys.path.insert(0, os.environ["TESTS"])
from kit import measure_latency_briefly, share_exports, tiny_pretrained
from acclimate.cli import busy
from acclimate.models.pretrained import PRETRAINED

for name in sys.argv[2:]:
    importlib.import_module(name)
share_exports(Path(os.environ["EXPORTS"]))
measure_latency_briefly()
busy.is_busy = lambda taken: False  # tests share the machine with each other
ended = {}
for line in sys.stdin:
    job = json.loads(line)
    if "poll" in job:
        if job["poll"] not in ended:
            pid, status = os.waitpid(job["poll"], os.WNOHANG)
            if pid:
                ended[pid] = os.waitstatus_to_exitcode(status)
        print(ended.get(job["poll"], ""), flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        break
    print(pid, flush=True)
else:
    sys.exit()
os.setsid()
for number, place in enumerate((os.devnull, job["out"], job["err"])):
    handle = os.open(place, os.O_RDWR | os.O_CREAT)
    os.dup2(handle, number)
os.environ.update(job["env"])
os.chdir(job["cwd"])
if job["tiny"]:
    PRETRAINED["packaged"] = tiny_pretrained
if job["file_size"] is not None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_size"], job["file_size"]))
sys.argv = [sys.argv[1], *job["args"]]
code = 1
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    code = end.code or 0
except BaseException:
    traceback.print_exc()
finally:
    sys.stdout.flush()
    # Not the usual way out: libraries would join threads that only the first process has.
    os._exit(code)
"""


@dataclass(frozen=True)
class Done:
    """How a command ended; a negative code is the signal that ended it."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.err.splitlines()


@dataclass(frozen=True)
class Running:
    """A command under way."""

    pid: int
    place: Path
    ask: Callable[[dict[str, Any]], str]

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = TIMEOUT_S) -> Done:
        end = time.monotonic() + seconds
        while not (told := self.ask({"poll": self.pid})):
            if time.monotonic() > end:
                self.signal(signal.SIGKILL)
                pytest.fail(f"no end after {seconds} s: {(self.place / 'err').read_text()}")
            time.sleep(0.005)
        return Done(int(told), (self.place / "out").read_text(), (self.place / "err").read_text())

    def wait_for(self, there: Callable[[], bool]) -> None:
        """Until something is true that the command will make true."""
        end = time.monotonic() + TIMEOUT_S
        while not there():
            if time.monotonic() > end or self.ask({"poll": self.pid}):
                pytest.fail(f"it did not come to that: {(self.place / 'err').read_text()}")
            time.sleep(0.002)


class Shell:
    """Starts commands in a folder."""

    script = SCRIPT

    def __init__(self, home: Path, logs: Path, shared: Path) -> None:
        self.home, self.logs, self.number = home, logs, 0
        self.env = {
            "HOME": str(home),
            "XDG_CACHE_HOME": str(shared / "cache"),
            # The key of the workshop's store, which all workers read.
            "XDG_CONFIG_HOME": str(shared / "config"),
            # Two cores shared with other processes: threads that wait for each other cost more.
            "OMP_NUM_THREADS": "1",
        }
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(SCRIPT), *IMPORTED],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env={
                **os.environ, **self.env,
                "TESTS": str(Path(__file__).parents[1]), "EXPORTS": str(shared / "exports"),
            },
        )  # fmt: skip
        self.started: list[Running] = []

    def ask(self, job: dict[str, Any]) -> str:
        self.server.stdin.write(json.dumps(job) + "\n")
        return self.server.stdout.readline().strip()

    def start(
        self,
        *args: object,
        cwd: Path,
        env: dict[str, str] | None = None,
        file_size: int | None = None,
        err: str | None = None,
        tiny: bool = False,
    ) -> Running:
        """Starts a command; with `tiny`, packaged networks are a tiny one without weights."""
        self.number += 1
        place = self.logs / str(self.number)
        place.mkdir()
        job = {
            "args": [str(a) for a in args],
            "cwd": str(cwd),
            "env": {**self.env, **(env or {})},
            "file_size": file_size,
            "tiny": tiny,
            "out": str(place / "out"),
            "err": err or str(place / "err"),
        }
        (place / "err").touch()
        running = Running(int(self.ask(job)), place, self.ask)
        self.started.append(running)
        return running

    def __call__(self, *args: object, cwd: Path, **more: Any) -> Done:
        return self.start(*args, cwd=cwd, **more).wait()

    def cold(
        self, *args: object, cwd: Path, env: dict[str, str] | None = None, **more: Any
    ) -> Done:
        done = subprocess.run(
            [str(self.script), *map(str, args)], cwd=cwd,
            env={**os.environ, **self.env, **(env or {})}, text=True, timeout=TIMEOUT_S,
            check=False, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more},
        )  # fmt: skip
        return Done(done.returncode, done.stdout or "", done.stderr or "")

    def close(self) -> None:
        for running in self.started:
            if not self.ask({"poll": running.pid}):
                running.signal(signal.SIGKILL)
        self.server.stdin.close()
        self.server.wait(timeout=30)
        self.server.stdout.close()


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[Shell]:
    """Runs the command in a folder that is given."""
    shell = Shell(tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("logs"), shared)
    yield shell
    shell.close()


@pytest.fixture
def acclimate(shell: Shell, tmp_path: Path) -> Callable[..., Done]:
    """Runs the command in the test's own folder."""
    return lambda *args, **more: shell(*args, **{"cwd": tmp_path, **more})


@pytest.fixture
def cold(shell: Shell, tmp_path: Path) -> Callable[..., Done]:
    """Runs the command in a process of its own, in the test's own folder."""
    return lambda *args, **more: shell.cold(*args, **{"cwd": tmp_path, **more})


@dataclass(frozen=True)
class Workshop:
    """A folder with photos, a model and a recipe, and the run that was made of them.

    Every test reads it; none writes into it.
    """

    folder: Path
    run: Done

    @property
    def made(self) -> Path:
        return self.folder / "runs" / "photos"

    @property
    def photos(self) -> Path:
        return self.folder / "photos"

    def step(self, name: str) -> Path:
        """The folder of a step of the run."""
        (found,) = self.made.glob(f"{name}-????????")
        return found


CLASSES = {"0": "nought", "1": "one & only", "7": "Sieben é"}
SETTINGS = f"""\
name: photos
data: {{path: photos, test_domains: {{shifted: shifted}}}}
model: {{name: "{TINY}", weights: tiny.safetensors, image_size: 32}}
augment: {{horizontal_flip: false, crop_area: 0.8, operations_per_image: 0}}
fine_tune: {{epochs: 2, batch_size: 16}}
distill: {{epochs: 1, batch_size: 16}}
prune: {{epochs: 1, batch_size: 16, max_accuracy_drop: 100}}
quantize: {{calibration_images: 32, max_accuracy_drop: 100}}
evaluate: {{bootstrap: 100}}
"""


def make_photos(folder: Path, per_class: int = 30) -> None:
    """`<split>/<class>/<number>.png`: real digits under names that people give."""
    write_digits(folder, per_class=per_class)
    for place in folder.glob("*/*"):
        if place.name in CLASSES:
            place.rename(place.with_name(CLASSES[place.name]))
        else:
            shutil.rmtree(place)


def save_tiny(path: Path) -> None:
    """A network of 100,000 weights: real, and trained in tenths of a second."""
    torch.manual_seed(0)
    name = TINY.removeprefix("timm:")
    save_file(timm.create_model(name, pretrained=False, num_classes=10).state_dict(), path)


@pytest.fixture(scope="session")
def workshop(shell: Shell, shared: Path) -> Workshop:
    """One whole run through all stages, on photos of three classes with a few bad files."""

    def make(folder: Path) -> None:
        fill_workshop(folder)
        done = shell("run", "--recipe", "my.yaml", cwd=folder)
        (folder / "run.json").write_text(json.dumps(asdict(done)))

    folder = made_once(shared / "workshop", make)
    return Workshop(folder, Done(**json.loads((folder / "run.json").read_text())))


def fill_workshop(folder: Path) -> None:
    photos = folder / "photos"
    make_photos(photos)
    write_shifted(photos / "test", folder / "shifted")
    save_tiny(folder / "tiny.safetensors")
    (folder / "my.yaml").write_text(SETTINGS)
    nought = photos / "train" / "nought"
    some = sorted(nought.iterdir())
    (nought / "empty.jpg").write_bytes(b"")
    with Image.open(some[0]) as image:
        image.convert("RGB").save(nought / "cut off.jpg")
    (nought / "cut off.jpg").write_bytes((nought / "cut off.jpg").read_bytes()[:-300])
    shutil.copy(some[1], nought / "twice.png")
    (photos / "train" / ".ipynb_checkpoints").mkdir()
