"""Looking at many files on all cores: threads for a few, processes of our own for many.

Most of a look at a small image is Python, where threads wait for each other; processes do not. They
are plain children that read paths and answer with figures, line by line in JSON: `multiprocessing`
would import the user's script again, or fork a process that has threads. An image that brings its
decoder down takes one child along and is told as broken.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self

from acclimate.cleaning.scan.image_stats import Look, look
from acclimate.context import usable_cores
from acclimate.data.images.decode_limits import Bounds, PlainBounds

MANY = 1000
"""Images from which processes, which take half a second to start, are worth it."""
_CHUNK = 32
_SLICE = 4096
"""Images handed out at a time: a future for each of ten million would be the larger table."""


def looks(paths: list[Path], bounds: Bounds, *, faults: bool = True) -> Iterator[Look]:
    """Looks at files on all cores.

    Args:
        paths: The files.
        bounds: What is too large.
        faults: Whether brightness, sharpness and the like are measured.

    Yields:
        Look: One a file, in their order.
    """
    cores = usable_cores()
    number = cores if len(paths) >= MANY and cores > 1 and sys.executable else 0
    one = partial(look, bounds=bounds, faults=faults)
    with _Children(number, bounds, faults) as children, ThreadPoolExecutor(cores, "clean") as pool:
        for start in range(0, len(paths), _SLICE):
            some = paths[start : start + _SLICE]
            if not children.ready:
                yield from pool.map(one, some)
                continue
            chunks = [some[i : i + _CHUNK] for i in range(0, len(some), _CHUNK)]
            for found in pool.map(children.ask, chunks):
                yield from found


class _Children:
    """Some processes that look; `ask` may be called from as many threads."""

    def __init__(self, number: int, bounds: Bounds, faults: bool) -> None:
        self._task = [bounds.max_megapixels, bounds.max_file_mb, faults]
        self._all: list[subprocess.Popen[bytes]] = []
        self._free: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        started = [self._start() for _ in range(number)]
        self.ready = bool(started) and all([_answer(child) is not None for child in started])
        for child in started:
            self._free.put(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._all:
            child.kill()
            with suppress(OSError):
                child.communicate()

    def ask(self, paths: list[Path]) -> list[Look]:
        """Has one process look at some files."""
        child = self._free.get()
        try:
            _send(child, [os.fspath(path) for path in paths])
            answer = _answer(child)
            if answer is None:
                child = self._start()
                _answer(child)
        finally:
            self._free.put(child)
        if answer is not None:
            return [_as_look(row) for row in answer]
        if len(paths) == 1:
            return [Look(reason="image brings its decoder down")]
        return [seen for path in paths for seen in self.ask([path])]

    def _start(self) -> subprocess.Popen[bytes]:
        home = str(Path(__file__).parents[2])
        before = os.environ.get("PYTHONPATH")
        child = subprocess.Popen(
            # -P: a file in the user's folder must not stand in for a library.
            [sys.executable, "-P", "-m", "acclimate.cleaning.scan.parallel"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([home, before] if before else [home]),
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
            },
            start_new_session=True,  # Ctrl-C is for the command, which ends its children itself
        )
        self._all.append(child)
        _send(child, self._task)
        return child


def _send(child: subprocess.Popen[bytes], message: object) -> None:
    """Sends one line; one that is no more does not answer."""
    assert child.stdin is not None
    with suppress(OSError):
        child.stdin.write(json.dumps(message).encode() + b"\n")
        child.stdin.flush()


def _answer(child: subprocess.Popen[bytes]) -> list[list[Any]] | None:
    """Reads one line; None when the process is no more."""
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line.endswith(b"\n"):
        return None
    found: list[list[Any]] = json.loads(line)
    return found


_BYTES = tuple(name for name, kind in Look.__annotations__.items() if kind == bytes | None)
_NAMES = tuple(Look.__annotations__)


def _as_look(row: list[Any]) -> Look:
    values = dict(zip(_NAMES, row, strict=True))
    for name in _BYTES:
        if values[name] is not None:
            values[name] = bytes.fromhex(values[name])
    return Look(**values)


def _as_row(seen: Look) -> list[Any]:
    values = [getattr(seen, name) for name in _NAMES]
    return [value.hex() if isinstance(value, bytes) else value for value in values]


def main() -> None:
    """The child: a line of bounds and an empty answer, then lines of paths and lines of figures."""
    lines = iter(sys.stdin.buffer.readline, b"")
    max_megapixels, max_file_mb, faults = json.loads(next(lines))
    bounds = PlainBounds(max_megapixels, max_file_mb)
    rows: list[list[Any]] = []
    while True:
        sys.stdout.buffer.write(json.dumps(rows).encode() + b"\n")
        sys.stdout.buffer.flush()
        line = next(lines, None)
        if line is None:
            return
        rows = [_as_row(look(Path(path), bounds, faults=faults)) for path in json.loads(line)]


if __name__ == "__main__":
    main()
