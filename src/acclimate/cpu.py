"""Processor cores: how many this process may use, how its threads wait, and what others take."""

import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables that decide how OpenMP's threads wait. If one is set, all are left as they are."""
_SPINS = "10000"
"""About a tenth of a millisecond: long enough for the next layer if the machine is idle, and short
enough if it is busy. `benchmarks/busy_machine.py` compares others."""
PROC = Path("/proc")
EXACT_INT8 = ("amx_int8", "avx512_vnni", "avx_vnni")
"""Features of x86 processors that sum products of 8-bit integers in 32 bits."""
SHORTEST_S = 0.5
"""Seconds over which the work of others is averaged at least: it is counted in hundredths."""
_FREE_SHARE = 0.75
"""The machine is busy if others leave less than this part of the usable cores: a training with two
threads takes a third longer then."""
_TICKS_PER_S = 100
"""Unit of `/proc/stat`, the same on every Linux (USER_HZ)."""


def usable_cores() -> int:
    """The cores that this process may use: by affinity, and by the CPU quota of its container."""
    allowed = core_count()
    quota = _quota_here()
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def limit_threads() -> None:
    """Uses no more threads than there are usable cores, and lets waiting threads sleep.

    Call it before PyTorch is imported. The command `acclimate` does so itself. Without it, PyTorch
    starts a thread for each core of the machine, even if the container may use one core, and
    waiting threads spin: on a machine that has other work to do, training takes several times as
    long. Variables that are set (`OMP_NUM_THREADS`, `OMP_WAIT_POLICY`, …) are left as they are.

    >>> import acclimate
    >>> acclimate.limit_threads()
    """
    if "torch" not in sys.modules:
        set_thread_variables()
        return
    import torch

    torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
    warnings.warn(
        "PyTorch is imported already, so that its waiting threads will spin. Call "
        "acclimate.limit_threads() before PyTorch is imported.",
        RuntimeWarning,
        stacklevel=2,
    )


def set_thread_variables() -> None:
    """Sets the environment of this process and its children as `limit_threads` describes."""
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # of LLVM's and Intel's OpenMP
        os.environ["GOMP_SPINCOUNT"] = _SPINS  # of GNU's, where it precedes the policy
    cores = usable_cores()
    if cores < core_count():  # the libraries know of affinity, but not of quotas
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))  # OpenBLAS and MKL read it too


def has_exact_int8() -> bool:
    """Whether this processor sums products of 8-bit integers exactly.

    Those of x86 without VNNI add pairs of products in 16 bits, which clips large sums: an int8
    model that is accurate elsewhere may lose several points there.

    Returns:
        False also where it is not known, such as on x86 with another system than Linux.
    """
    if platform.machine().lower() in ("arm64", "aarch64"):
        return True
    return bool(cpu_flags().intersection(EXACT_INT8))


def cpu_flags() -> set[str]:
    """The features of the processor as Linux names them; none on other systems."""
    try:
        text = (PROC / "cpuinfo").read_text()
    except OSError:
        return set()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(line.partition(":")[2].split())


def core_count() -> int:
    """The cores that this process may run on by affinity, whatever its quota."""
    return len(_affinity())


def _affinity() -> set[int]:
    """The ids of the cores that this process may use by affinity."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return affinity(0) if affinity else set(range(os.cpu_count() or 1))


@cache
def _quota_here() -> float | None:
    return cpu_quota()


def cpu_quota(process: Path = PROC / "self") -> float | None:
    """The CPU quota of a process's control groups (version 1 and 2), in cores.

    Args:
        process: The folder of the process.

    Returns:
        The smallest quota of its group and the groups above; None if there is none.
    """
    quotas = [q for group in _cpu_groups(process) if (q := _group_quota(group)) is not None]
    return min(quotas, default=None)


def _cpu_groups(process: Path) -> Iterator[Path]:
    """The folders of a process's CPU groups, each followed by those above it."""
    try:
        mounts = (process / "mountinfo").read_text().splitlines()
        memberships = (process / "cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    # "4:cpu,cpuacct:/docker/1a2b" in version 1, "0::/docker/1a2b" in version 2
    own = {controllers: path for _, controllers, path in (m.split(":", 2) for m in memberships)}
    for line in mounts:
        # "36 25 0:31 /docker/1a2b /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct"
        place, _, kind = line.partition(" - ")
        root, top = place.split(" ")[3:5]
        name, _, options = kind.split(" ", 2)
        if name == "cgroup2":
            path = own.get("")
        elif name == "cgroup" and "cpu" in options.split(","):
            path = next((p for names, p in own.items() if "cpu" in names.split(",")), None)
        else:
            continue
        if path is None:
            continue
        # In a container, the mount often starts at the container's own group.
        inside = path.removeprefix(root.rstrip("/")).strip("/") if path.startswith(root) else ""
        group = Path(top)
        yield group
        for part in Path(inside).parts:
            group /= part
            yield group


def _group_quota(group: Path) -> float | None:
    """The quota of one group in cores; None if it has none."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text().strip()
            period = (group / "cpu.cfs_period_us").read_text()
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


class OtherWork:
    """Measures how many of the usable cores other processes take.

    Works on Linux, where other machines on the same host count too; elsewhere nothing is known.
    """

    def __init__(self) -> None:
        self._last = _now()

    def cores(self) -> float | None:
        """The cores that other processes took on average since the last call, or the start.

        Returns:
            The average; None if it is not known, or the time was too short.
        """
        now, last = _now(), self._last
        if now is None or last is None or now.clock - last.clock < SHORTEST_S:
            return None
        self._last = now
        taken = (now.busy - last.busy) - (now.own - last.own)
        return max(0.0, taken / (now.clock - last.clock))


def is_busy(taken: float) -> bool:
    """Whether other processes leave this one less than three quarters of the usable cores.

    Args:
        taken: Cores that others take, of those that affinity allows.

    Returns:
        Whether they do.
    """
    return core_count() - taken < _FREE_SHARE * usable_cores()


@dataclass(frozen=True)
class _Seconds:
    """Seconds at one moment: of the clock, of all usable cores at work, of this process's work."""

    clock: float
    busy: float
    own: float


def _now() -> _Seconds | None:
    cores = {f"cpu{core}" for core in _affinity()}
    try:
        lines = [line.split() for line in (PROC / "stat").read_text().splitlines()]
    except OSError:
        return None
    # user, nice, system, idle, waiting for a disk, interrupts (two kinds), steal
    ticks = sum(sum(map(int, line[1:4] + line[6:9])) for line in lines if line[0] in cores)
    return _Seconds(time.monotonic(), ticks / _TICKS_PER_S, sum(os.times()[:4]) + _children())


def _children() -> float:
    """The seconds that the child processes that still run have worked."""
    me, ticks = str(os.getpid()), 0
    for place in PROC.glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(") ")[2].split()
        except OSError:  # it has ended
            continue
        if fields[1] == me:
            ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS_PER_S
