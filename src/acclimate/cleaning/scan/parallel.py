"""Measures many files on all cores: by threads if they are few, by processes if they are many.

Most of the work on a small image is Python code, which threads cannot run in parallel. The workers
are plain subprocesses that read paths and write measurements as lines of JSON: `multiprocessing`
would import the user's script again, or fork a process that has threads. An image that crashes its
decoder ends one worker and is reported as broken.
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
from acclimate.cpu import usable_cores
from acclimate.data.blocks import blocks
from acclimate.data.images.decode_limits import DecodeLimits, PlainDecodeLimits
from acclimate.data.images.samples import BITS

MIN_FOR_PROCESSES = 1000
"""Images from which processes pay off; they take half a second to start."""
_CHUNK = 32
_SLICE = 4096
"""Images submitted at a time: a future for each of ten million images would take more memory than
their table."""


def measure_images(
    paths: list[Path], limits: DecodeLimits, *, with_quality: bool = True, bits: int = BITS
) -> Iterator[ImageStats]:
    """Measures files on all cores.

    Args:
        paths: The files.
        limits: The largest file and image.
        with_quality: Whether brightness, sharpness and the like are measured.
        bits: Bits of the largest sample in 16-bit grey images.

    Yields:
        ImageStats: One per file, in their order.
    """
    cores = usable_cores()
    worker_count = cores if len(paths) >= MIN_FOR_PROCESSES and cores > 1 and sys.executable else 0
    measure_one = partial(measure_image, limits=limits, with_quality=with_quality, bits=bits)
    with (
        _Workers(
            worker_count, [limits.max_megapixels, limits.max_file_mb, with_quality, bits]
        ) as workers,
        ThreadPoolExecutor(cores, "clean") as pool,
    ):
        for block in blocks(len(paths), _SLICE):
            some = paths[block]
            if not workers.ready:
                yield from pool.map(measure_one, some)
                continue
            chunks = [some[chunk] for chunk in blocks(len(some), _CHUNK)]
            for found in pool.map(workers.measure, chunks):
                yield from found


class _Workers:
    """Worker processes; `measure` may be called from as many threads as there are workers."""

    def __init__(self, worker_count: int, task: list[float]) -> None:
        self._task = task
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
        """Measures some files in one worker process."""
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
        home = str(Path(__file__).parents[3])
        before = os.environ.get("PYTHONPATH")
        worker = subprocess.Popen(
            # -P: a file in the user's folder must not shadow a library.
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
            start_new_session=True,  # Ctrl-C is for the command, which ends its workers itself
        )
        self._all.append(worker)
        _send(worker, self._task)
        return worker


def _send(worker: subprocess.Popen[bytes], message: object) -> None:
    """Sends one line; errors of a dead worker are ignored, since it does not answer either."""
    assert worker.stdin is not None
    with suppress(OSError):
        worker.stdin.write(json.dumps(message).encode() + b"\n")
        worker.stdin.flush()


def _receive(worker: subprocess.Popen[bytes]) -> list[list[Any]] | None:
    """Reads one line; None if the process has ended."""
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
    """The worker: answers the limits with an empty list, then each list of paths with stats."""
    lines = iter(sys.stdin.buffer.readline, b"")
    max_megapixels, max_file_mb, with_quality, bits = json.loads(next(lines))
    limits = PlainDecodeLimits(max_megapixels, max_file_mb)
    rows: list[list[Any]] = []
    while True:
        sys.stdout.buffer.write(json.dumps(rows).encode() + b"\n")
        sys.stdout.buffer.flush()
        line = next(lines, None)
        if line is None:
            return
        rows = [
            _to_row(measure_image(Path(path), limits, with_quality=with_quality, bits=bits))
            for path in json.loads(line)
        ]


if __name__ == "__main__":
    main()
