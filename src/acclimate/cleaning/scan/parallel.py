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

from acclimate.cleaning.scan.image_stats import ImageStats, measure_image
from acclimate.context import usable_cores
from acclimate.data.images.decode_limits import DecodeLimits, PlainDecodeLimits

MIN_FOR_PROCESSES = 1000
"""Images from which processes, which take half a second to start, are worth it."""
_CHUNK = 32
_SLICE = 4096
"""Images handed out at a time: a future for each of ten million would be the larger table."""


def measure_images(
    paths: list[Path], limits: DecodeLimits, *, with_quality: bool = True
) -> Iterator[ImageStats]:
    """Looks at files on all cores.

    Args:
        paths: The files.
        limits: What is too large.
        with_quality: Whether brightness, sharpness and the like are measured.

    Yields:
        ImageStats: One a file, in their order.
    """
    cores = usable_cores()
    worker_count = cores if len(paths) >= MIN_FOR_PROCESSES and cores > 1 and sys.executable else 0
    measure_one = partial(measure_image, limits=limits, with_quality=with_quality)
    with (
        _Workers(worker_count, limits, with_quality) as workers,
        ThreadPoolExecutor(cores, "clean") as pool,
    ):
        for start in range(0, len(paths), _SLICE):
            some = paths[start : start + _SLICE]
            if not workers.ready:
                yield from pool.map(measure_one, some)
                continue
            chunks = [some[i : i + _CHUNK] for i in range(0, len(some), _CHUNK)]
            for found in pool.map(workers.measure, chunks):
                yield from found


class _Workers:
    """Some processes that look; `measure` may be called from as many threads."""

    def __init__(self, worker_count: int, limits: DecodeLimits, with_quality: bool) -> None:
        self._task = [limits.max_megapixels, limits.max_file_mb, with_quality]
        self._all: list[subprocess.Popen[bytes]] = []
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        started = [self._start() for _ in range(worker_count)]
        self.ready = bool(started) and all([_receive(worker) is not None for worker in started])
        for worker in started:
            self._idle.put(worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._all:
            worker.kill()
            with suppress(OSError):
                worker.communicate()

    def measure(self, paths: list[Path]) -> list[ImageStats]:
        """Has one process look at some files."""
        worker = self._idle.get()
        try:
            _send(worker, [os.fspath(path) for path in paths])
            rows = _receive(worker)
            if rows is None:
                worker = self._start()
                _receive(worker)
        finally:
            self._idle.put(worker)
        if rows is not None:
            return [_from_row(row) for row in rows]
        if len(paths) == 1:
            return [ImageStats(reason="image crashes its decoder")]
        return [stats for path in paths for stats in self.measure([path])]

    def _start(self) -> subprocess.Popen[bytes]:
        home = str(Path(__file__).parents[2])
        before = os.environ.get("PYTHONPATH")
        worker = subprocess.Popen(
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
        self._all.append(worker)
        _send(worker, self._task)
        return worker


def _send(worker: subprocess.Popen[bytes], message: object) -> None:
    """Sends one line; one that is no more does not answer."""
    assert worker.stdin is not None
    with suppress(OSError):
        worker.stdin.write(json.dumps(message).encode() + b"\n")
        worker.stdin.flush()


def _receive(worker: subprocess.Popen[bytes]) -> list[list[Any]] | None:
    """Reads one line; None when the process is no more."""
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line.endswith(b"\n"):
        return None
    found: list[list[Any]] = json.loads(line)
    return found


_BYTES = tuple(name for name, kind in ImageStats.__annotations__.items() if kind == bytes | None)
_NAMES = tuple(ImageStats.__annotations__)


def _from_row(row: list[Any]) -> ImageStats:
    values = dict(zip(_NAMES, row, strict=True))
    for name in _BYTES:
        if values[name] is not None:
            values[name] = bytes.fromhex(values[name])
    return ImageStats(**values)


def _to_row(stats: ImageStats) -> list[Any]:
    values = [getattr(stats, name) for name in _NAMES]
    return [value.hex() if isinstance(value, bytes) else value for value in values]


def main() -> None:
    """The child: a line of bounds and an empty answer, then lines of paths and lines of figures."""
    lines = iter(sys.stdin.buffer.readline, b"")
    max_megapixels, max_file_mb, with_quality = json.loads(next(lines))
    limits = PlainDecodeLimits(max_megapixels, max_file_mb)
    rows: list[list[Any]] = []
    while True:
        sys.stdout.buffer.write(json.dumps(rows).encode() + b"\n")
        sys.stdout.buffer.flush()
        line = next(lines, None)
        if line is None:
            return
        rows = [
            _to_row(measure_image(Path(path), limits, with_quality=with_quality))
            for path in json.loads(line)
        ]


if __name__ == "__main__":
    main()
